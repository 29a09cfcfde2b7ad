package alerting

import (
	"fmt"
	"strings"
	"text/template/parse"

	"github.com/VictoriaMetrics/metricsql"

	"bramble/storage/series"
)

// Warnings says, with file, line and rule, what is allowed and will not do what its author most likely expects.
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
