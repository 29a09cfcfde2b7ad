package alerting

import (
	"bytes"
	_ "embed"
	"fmt"
	htmltemplate "html/template"
	texttemplate "text/template"

	"github.com/prometheus/alertmanager/template"
)

//go:embed page.tmpl
var pageTemplate []byte

// pageTemplates are Alertmanager's, with the words of ours in the place of its own, and the user's over both.
func pageTemplates(globs []string) (*template.Template, error) {
	t, err := template.FromGlobs(nil, func(text *texttemplate.Template, html *htmltemplate.Template) {
		own := map[string]any{"short": short}
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
