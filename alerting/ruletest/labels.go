package ruletest

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"bramble/storage/series"
)

const alertLabel = "alertname"

// labelText writes labels as {a="1",b="2"}, "" for none.
func labelText(labels map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, name+"="+strconv.Quote(labels[name]))
	}
	if len(pairs) == 0 {
		return ""
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

// seriesText writes a series as name{label="value"}, {} for no labels at all.
func seriesText(labels []series.Label) string {
	m := map[string]string{}
	for _, l := range labels {
		m[l.Name] = l.Value
	}
	name := m[series.NameLabel]
	delete(m, series.NameLabel)
	text := name + labelText(withoutEmpty(m))
	if text == "" {
		return "{}"
	}
	return text
}

func withoutEmpty(m map[string]string) map[string]string {
	out := maps.Clone(m)
	maps.DeleteFunc(out, func(_, v string) bool { return v == "" })
	return out
}
