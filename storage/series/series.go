// Package series holds the values of time series that others pass around without the store's engine: labels, samples, and the series
// of an answer. It owns the canonical text of labels, which alerts are named by on disk. It stores nothing and asks
// nothing: package storage does.
package series

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// NameLabel is the label that holds the metric's name.
const NameLabel = "__name__"

// Stale is Prometheus' marker: a value that says that its series has ended. Among NaNs it alone is stored, and an
// instant query behind it finds nothing.
var Stale = math.Float64frombits(0x7ff0000000000002)

// Label is a name and a value of a series. The metric's name is the label [NameLabel].
type Label struct{ Name, Value string }

// Result is one series of an answer. At and Values have the same length and ascending times; gaps are left
// out. The caller owns all of it.
type Result struct {
	Labels []Label // __name__ first if there is one, then by name
	At     []int64 // Unix milliseconds
	Values []float64
}

// Sample is one value of the series with these labels at one time, in Unix milliseconds.
type Sample struct {
	Labels []Label
	At     int64
	Value  float64
}

// Get returns the value of a label, "" where it is absent.
func Get(labels []Label, name string) string {
	for _, l := range labels {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// Sorted returns a copy sorted by name, without empty values: absent and empty are the same label.
func Sorted(labels []Label) []Label {
	out := slices.DeleteFunc(slices.Clone(labels), func(l Label) bool { return l.Value == "" })
	slices.SortFunc(out, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Merge returns the labels of both, sorted by name; those of the second win.
func Merge(labels, over []Label) []Label {
	m := Map(labels)
	maps.Copy(m, Map(over))
	out := make([]Label, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, Label{Name: name, Value: m[name]})
	}
	return out
}

// Map returns labels by name.
func Map(labels []Label) map[string]string {
	out := make(map[string]string, len(labels))
	for _, l := range labels {
		out[l.Name] = l.Value
	}
	return out
}

// List returns labels in no order.
func List(labels map[string]string) (out []Label) {
	for name, value := range labels {
		out = append(out, Label{Name: name, Value: value})
	}
	return out
}

// Key writes sorted labels as a="1",b="2", leaving out one name. It is valid UTF-8, since it goes into JSON.
func Key(sorted []Label, without string) string {
	var b strings.Builder
	for _, l := range sorted {
		if l.Name == without {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(Pair(l.Name, l.Value))
	}
	return b.String()
}

// Pair writes one label as it stands in a key.
func Pair(name, value string) string { return name + "=" + strconv.Quote(value) }

// HasPair reports whether a key made by [Key] holds a pair made by [Pair].
func HasPair(key, pair string) bool {
	return strings.Contains(","+key+",", ","+pair+",")
}
