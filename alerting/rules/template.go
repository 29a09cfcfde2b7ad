package rules

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"text/template"
	"text/template/parse"

	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmalert/templates"
	"github.com/VictoriaMetrics/metricsql"

	"bramble/storage/series"
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

// templateData is the data of a template.
type templateData struct {
	Labels         map[string]string
	Value          float64
	Expr           string
	ExternalLabels map[string]string
	ExternalURL    string
}

// external holds facts about the collector itself, for templates.
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

// Warnings lists, with file, line and rule, constructs that are allowed and will most likely surprise their author.
func (r *Rules) Warnings() (out []string) {
	for rule := range r.All() {
		where := fmt.Sprintf("%s:%d: rule %q: ", rule.File, rule.Line, rule.Name)
		if e, err := metricsql.Parse(rule.Expr); err == nil && selectsAlerts(e) {
			out = append(out, where+"nothing writes the series ALERTS here; write the other rule's expression into this one")
		}
		for _, texts := range [][]ruleText{rule.labelTexts, rule.text} {
			for _, t := range texts {
				if t.tmpl != nil && t.tmpl.Tree != nil && calls(t.tmpl.Root, "query") {
					out = append(out, where+fmt.Sprintf("%s: a template cannot query the store here: the text will say so in its place", t.name))
				}
			}
		}
	}
	return out
}

func selectsAlerts(e metricsql.Expr) (found bool) {
	metricsql.VisitAll(e, func(e metricsql.Expr) {
		m, ok := e.(*metricsql.MetricExpr)
		if !ok {
			return
		}
		for _, filters := range m.LabelFilterss {
			for _, f := range filters {
				found = found || f.Label == series.NameLabel && !f.IsNegative && strings.HasPrefix(f.Value, "ALERTS")
			}
		}
	})
	return found
}

// calls reports whether a template calls a function.
func calls(n parse.Node, name string) bool {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return false
		}
		for _, c := range n.Nodes {
			if calls(c, name) {
				return true
			}
		}
	case *parse.ActionNode:
		return calls(n.Pipe, name)
	case *parse.PipeNode:
		if n == nil {
			return false
		}
		for _, c := range n.Cmds {
			for _, arg := range c.Args {
				if calls(arg, name) {
					return true
				}
			}
		}
	case *parse.IdentifierNode:
		return n.Ident == name
	case *parse.IfNode:
		return callsBranch(&n.BranchNode, name)
	case *parse.RangeNode:
		return callsBranch(&n.BranchNode, name)
	case *parse.WithNode:
		return callsBranch(&n.BranchNode, name)
	}
	return false
}

func callsBranch(n *parse.BranchNode, name string) bool {
	return calls(n.Pipe, name) || calls(n.List, name) || calls(n.ElseList, name)
}
