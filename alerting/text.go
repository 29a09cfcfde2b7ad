package alerting

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/prometheus/common/model"
)

// labelText writes labels as {a="1",b="2"}, "" for none.
func labelText(labels map[string]string) string {
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

// alertText says in one line what an alert is about: its summary, else its message, else its description, else its name with the
// labels that tell it apart.
func alertText(labels, annotations map[string]string) string {
	for _, name := range []string{"summary", "message", "description"} {
		if text := oneLine(annotations[name]); text != "" {
			return text
		}
	}
	text := labels[alertLabel]
	if board := labels[boardLabel]; board != "" {
		text += " on " + board
	}
	if words := labelWords(labels); words != "" {
		text += ": " + words
	}
	return text
}

// notToldApart are the labels that say of which kind an alert is, or are said apart from the others.
var notToldApart = map[string]bool{alertLabel: true, boardLabel: true, "severity": true, pagesLabel: true, shadowLabel: true}

// labelWords writes the labels that tell an alert apart from others of its name, such as "instance web-1:9100, job node".
func labelWords(labels map[string]string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if !notToldApart[name] && labels[name] != "" {
			words = append(words, name+" "+labels[name])
		}
	}
	return oneLine(strings.Join(words, ", "))
}

// oneLine makes one line of a text: it may stand in a header, where a line break would begin another one.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
}

func list(set map[string]bool, most int) string {
	names := slices.Sorted(maps.Keys(set))
	if len(names) > most {
		return strings.Join(names[:most], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// severityRank orders the severities in common use; unknown ones stand above none.
func severityRank(s string) int {
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

func enumerate(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// short cuts a text to so many characters, for messages that cost by length.
func short(most int, text string) string {
	runes := []rune(strings.TrimSpace(text))
	if most < 1 || len(runes) <= most {
		return string(runes)
	}
	return string(runes[:most-1]) + "…"
}

// labelSet converts labels.
func labelSet(labels map[string]string) model.LabelSet {
	out := make(model.LabelSet, len(labels))
	for n, v := range labels {
		out[model.LabelName(n)] = model.LabelValue(v)
	}
	return out
}
