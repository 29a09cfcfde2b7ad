package alert

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/prometheus/common/model"
)

// LabelText writes labels as {a="1",b="2"}, "" for none.
func LabelText(labels map[string]string) string {
	if len(labels) == 0 {
		return ""
	}
	var b strings.Builder
	for i, name := range slices.Sorted(maps.Keys(labels)) {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(name + "=" + strconv.Quote(labels[name]))
	}
	return b.String() + "}"
}

// Name is the name of an alert. One that another program posted may have none.
func Name(labels map[string]string) string { return cmp.Or(labels[NameLabel], "Alert") }

// Text describes an alert in one line: its summary, else its message, else its description, else its name with the
// labels that tell it apart.
func Text(labels, annotations map[string]string) string {
	for _, name := range []string{"summary", "message", "description"} {
		if text := OneLine(annotations[name]); text != "" {
			return text
		}
	}
	text := Name(labels)
	if board := labels[BoardLabel]; board != "" {
		text += " on " + board
	}
	if words := LabelWords(labels); words != "" {
		text += ": " + words
	}
	return text
}

// saidApart are the labels that say of which kind an alert is, or that a text names apart from the others.
var saidApart = map[string]bool{NameLabel: true, BoardLabel: true, "severity": true, PagesLabel: true, ShadowLabel: true}

// LabelWords writes the labels that tell an alert apart from others of its name, such as "instance web-1:9100, job node".
func LabelWords(labels map[string]string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if !saidApart[name] && labels[name] != "" {
			words = append(words, name+" "+labels[name])
		}
	}
	return OneLine(strings.Join(words, ", "))
}

// OneLine makes one line of a text: it may stand in a header, where a line break would begin another one.
func OneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
}

// Names lists a set in order, at most so many of it.
func Names(set map[string]bool, limit int) string {
	names := slices.Sorted(maps.Keys(set))
	if len(names) > limit {
		return strings.Join(names[:limit], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// SeverityRank orders the severities in common use; unknown ones stand above none.
func SeverityRank(s string) int {
	switch strings.ToLower(s) {
	case "":
		return 0
	case "info", "none":
		return 2
	case "warning", "ticket":
		return 3
	case "error", "high":
		return 4
	case "critical", "page", "emergency", "disaster":
		return 5
	}
	return 1
}

// Enumerate lists names for a sentence: "a, b and c".
func Enumerate(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// Short cuts a text to so many characters, for messages that cost by length.
func Short(limit int, text string) string {
	runes := []rune(strings.TrimSpace(text))
	if limit < 1 || len(runes) <= limit {
		return string(runes)
	}
	return string(runes[:limit-1]) + "…"
}

// LabelSet converts labels to the type of Prometheus and Alertmanager.
func LabelSet(labels map[string]string) model.LabelSet {
	out := make(model.LabelSet, len(labels))
	for n, v := range labels {
		out[model.LabelName(n)] = model.LabelValue(v)
	}
	return out
}
