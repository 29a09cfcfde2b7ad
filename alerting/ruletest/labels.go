package ruletest

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"bramble/storage"
)

const (
	nameLabel  = "__name__"
	alertLabel = "alertname"
)

// sorted returns a copy sorted by name, without empty values: absent and empty are the same label.
func sorted(labels []storage.Label) []storage.Label {
	out := slices.DeleteFunc(slices.Clone(labels), func(l storage.Label) bool { return l.Value == "" })
	slices.SortFunc(out, func(a, b storage.Label) int { return strings.Compare(a.Name, b.Name) })
	return out
}

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
func seriesText(labels []storage.Label) string {
	m := map[string]string{}
	for _, l := range labels {
		m[l.Name] = l.Value
	}
	name := m[nameLabel]
	delete(m, nameLabel)
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
