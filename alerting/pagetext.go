package alerting

import (
	"bytes"
	_ "embed"
	"fmt"
	htmltemplate "html/template"
	"maps"
	"slices"
	"strings"
	texttemplate "text/template"
	"unicode"

	"github.com/prometheus/alertmanager/template"
)

//go:embed page.tmpl
var pageTemplate []byte

// pageTemplates are Alertmanager's, with the words of ours in the place of its own, and the user's over both.
func pageTemplates(globs []string) (*template.Template, error) {
	t, err := template.FromGlobs(nil, func(text *texttemplate.Template, html *htmltemplate.Template) {
		own := map[string]any{"short": short, "alertTexts": alertTexts, "alertText": func(a template.Alert) string { return alertText(a.Labels, a.Annotations) }}
		text.Funcs(own)
		html.Funcs(own)
	})
	if err != nil {
		return nil, err
	}
	if err := t.Parse(bytes.NewReader(pageTemplate)); err != nil {
		return nil, fmt.Errorf("page.tmpl: %w", err) // a test sends with each
	}
	for _, g := range globs {
		if err := t.FromGlob(g); err != nil {
			return nil, err
		}
	}
	return t, nil
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

// alertTexts is alertText of each alert of a page. Where several would read the same, the labels in which they differ follow.
func alertTexts(alerts template.Alerts) []string {
	out, times := make([]string, len(alerts)), map[string]int{}
	for i, a := range alerts {
		out[i] = alertText(a.Labels, a.Annotations)
		times[out[i]]++
	}
	for i, a := range alerts {
		if times[out[i]] < 2 {
			continue
		}
		own := maps.Clone(map[string]string(a.Labels))
		maps.DeleteFunc(own, func(name, value string) bool {
			return !slices.ContainsFunc(alerts, func(o template.Alert) bool { return o.Labels[name] != value })
		})
		if board := own[boardLabel]; board != "" {
			out[i] += " (" + board + ")"
		} else if words := labelWords(own); words != "" {
			out[i] += " (" + words + ")"
		}
	}
	return out
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
