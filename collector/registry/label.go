package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a board's labels.
const (
	// MaxLabels is the largest number of labels of one board. The store's own
	// limit for a series is 40, its own labels included.
	MaxLabels = 24
	// MaxLabelName and MaxLabelValue are in bytes.
	MaxLabelName  = 64
	MaxLabelValue = 128
)

// Label is one fact that the operator states about a board, such as its rack.
type Label struct{ Name, Value string }

// reserved are label names that series already carry (the first row), that
// alerts or queries give a meaning (the second), or that pi_info carries.
// A board's model may be stated by both.
var reserved = map[string]bool{
	"board": true, "source": true, "reason": true, "device": true, "op": true,
	"alertname": true, "alertstate": true, "severity": true, "domain": true, "pages": true, "le": true, "quantile": true, "instance": true, "job": true,
	"revision": true, "kernel": true, "firmware": true, "os": true, "sensor": true, "boot_id": true, "serial": true,
}

// grouping are the labels by which boards are grouped: failure domains go by
// the first four, tenants by the last.
var grouping = []string{"rack", "switch", "nfs", "site", "customer"}

// Misspelt returns the grouping label that name is one letter away from: one
// letter is another one, missing, too many, or has changed places with the
// next. It returns "" for a grouping label itself and for any other name.
func Misspelt(name string) string {
	if slices.Contains(grouping, name) {
		return ""
	}
	for _, g := range grouping {
		if oneCharacterAway(name, g) || name != g && strings.EqualFold(name, g) {
			return g
		}
	}
	return ""
}

// oneCharacterAway reports whether the optimal string alignment distance of two
// different names is one.
func oneCharacterAway(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch {
	case len(b) == len(a)+1:
		return a[i:] == b[i+1:]
	case len(a) != len(b) || i == len(a):
		return false
	case a[i+1:] == b[i+1:]:
		return true
	}
	return i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}

// ParseLabels reads labels as people type them, NAME=VALUE each. An empty value
// stays empty; a name twice is refused.
func ParseLabels(args []string) (map[string]string, error) {
	labels := make(map[string]string, len(args))
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("label %q: write it as NAME=VALUE, such as rack=r1", arg)
		}
		if err := validateLabel(name, value); err != nil {
			return nil, err
		}
		if _, twice := labels[name]; twice {
			return nil, fmt.Errorf("label %q is given twice: give it once", name)
		}
		labels[name] = value
	}
	return labels, nil
}

// ValidateLabels checks names and values. Empty values pass: they delete.
func ValidateLabels(labels map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if err := validateLabel(name, labels[name]); err != nil {
			return err
		}
	}
	return nil
}

func validateLabel(name, value string) error {
	switch {
	case !validLabelName(name):
		return fmt.Errorf("label name %q: use 1 to %d of a-z, A-Z, 0-9 and _, not starting with a digit or __", name, MaxLabelName)
	case reserved[name]:
		return fmt.Errorf("label name %q is kept for the collector's own labels: choose another, such as my_%s", name, name)
	}
	return validateText("label "+name, value)
}

// validateText checks a text that people wrote as a label's value or a name.
func validateText(what, text string) error {
	switch {
	case len(text) > MaxLabelValue:
		return fmt.Errorf("%s: value of %d bytes: use at most %d", what, len(text), MaxLabelValue)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }):
		return fmt.Errorf("%s: value %q: use printable characters only", what, text)
	}
	return nil
}

func validLabelName(name string) bool {
	for i := range len(name) {
		c := name[i]
		alphabetic := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !alphabetic && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && len(name) <= MaxLabelName && !strings.HasPrefix(name, "__")
}

// sorted turns a map into labels, leaving out empty values.
func sorted(m map[string]string) []Label {
	labels := make([]Label, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if m[name] != "" {
			labels = append(labels, Label{name, m[name]})
		}
	}
	return labels
}

// Map returns labels as a new map.
func Map(labels []Label) map[string]string {
	m := make(map[string]string, len(labels))
	for _, l := range labels {
		m[l.Name] = l.Value
	}
	return m
}

// merge returns labels with the changes; an empty value deletes.
func merge(labels []Label, changes map[string]string) []Label {
	m := Map(labels)
	maps.Copy(m, changes)
	return sorted(m)
}

// encodeLabels is the stored form.
func encodeLabels(labels []Label) string {
	b, err := json.Marshal(Map(labels))
	if err != nil {
		panic(err) // a map of strings always marshals
	}
	return string(b)
}

func decodeLabels(s string) ([]Label, error) {
	var m map[string]string
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		return nil, fmt.Errorf("read labels %q: %w", s, err)
	}
	return sorted(m), nil
}

// formatLabels writes labels as people type them.
func formatLabels(labels map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, name+"="+labels[name])
	}
	return strings.Join(parts, " ")
}
