package alerting

import (
	"bytes"
	_ "embed"
	"fmt"
	htmltemplate "html/template"
	"maps"
	"slices"
	texttemplate "text/template"

	"github.com/prometheus/alertmanager/template"

	"bramble/alerting/alert"
)

//go:embed page.tmpl
var pageTemplate []byte

// pageTemplates are Alertmanager's, with the words of ours in the place of its own, and the user's over both.
func pageTemplates(globs []string) (*template.Template, error) {
	t, err := template.FromGlobs(nil, func(text *texttemplate.Template, html *htmltemplate.Template) {
		own := map[string]any{"short": alert.Short, "alertTexts": alertTexts, "alertText": func(a template.Alert) string { return alert.Text(a.Labels, a.Annotations) }}
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

// alertTexts is Text of each alert of a page. Where several would read the same, the labels in which they differ follow.
func alertTexts(alerts template.Alerts) []string {
	out, times := make([]string, len(alerts)), map[string]int{}
	for i, a := range alerts {
		out[i] = alert.Text(a.Labels, a.Annotations)
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
		if board := own[alert.BoardLabel]; board != "" {
			out[i] += " (" + board + ")"
		} else if words := alert.LabelWords(own); words != "" {
			out[i] += " (" + words + ")"
		}
	}
	return out
}
