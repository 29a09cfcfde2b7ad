package alerting

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"text/template"

	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmalert/templates"
)

// maxRendered bounds one rendered annotation or label, in bytes: it ends up in pages and in the journal.
const maxRendered = 16 << 10

// templateHead gives templates the names that Prometheus gives them.
const templateHead = `{{$labels := .Labels}}{{$value := .Value}}{{$expr := .Expr}}` +
	`{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}`

// loadTemplates makes the template functions known; the library keeps them process-wide.
var loadTemplates = sync.OnceValue(func() error { return templates.Load(nil, url.URL{}) })

// ruleText is an annotation or label of a rule: literal, or a template.
type ruleText struct {
	name    string
	literal string
	tmpl    *template.Template
}

// templateData is what a template sees.
type templateData struct {
	Labels         map[string]string
	Value          float64
	Expr           string
	ExternalLabels map[string]string
	ExternalURL    string
}

// external is what templates know of the collector itself.
type external struct {
	labels map[string]string
	url    string
}

// parseRuleText compiles text where it holds a template action.
func parseRuleText(name, text string) (ruleText, error) {
	t := ruleText{name: name, literal: text}
	if !strings.Contains(text, "{{") {
		return t, nil
	}
	if err := loadTemplates(); err != nil {
		return t, err
	}
	base, err := templates.GetWithFuncs(templates.FuncsWithQuery(nil))
	if err != nil {
		return t, err
	}
	t.tmpl, err = base.New(name).Parse(templateHead + text)
	return t, err
}

// render returns the text for data. A template that fails never takes the alert down: its error becomes the text.
func (t ruleText) render(data templateData) (text string) {
	if t.tmpl == nil {
		return t.literal
	}
	var out strings.Builder
	defer func() {
		if r := recover(); r != nil {
			text = fmt.Sprintf("<error expanding template: %v>", r)
		}
	}()
	if err := t.tmpl.Execute(&limitedWriter{w: &out, left: maxRendered}, data); err != nil {
		return fmt.Sprintf("<error expanding template: %v>", err)
	}
	return out.String()
}

// renderTexts renders all of texts into dst.
func renderTexts(dst map[string]string, texts []ruleText, data templateData) {
	for _, t := range texts {
		dst[t.name] = t.render(data)
	}
}

// limitedWriter fails once more than left bytes have been written.
type limitedWriter struct {
	w    io.Writer
	left int
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if len(p) > l.left {
		return 0, fmt.Errorf("text is longer than %d bytes", maxRendered)
	}
	l.left -= len(p)
	return l.w.Write(p)
}
