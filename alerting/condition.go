package alerting

import (
	"regexp"
	"slices"

	"github.com/VictoriaMetrics/metricsql"

	"bramble/alerting/alert"
	"bramble/storage/series"
)

// condition is an expression that one reading can decide: a tree of and/or over comparisons of one selector with one
// number. A single comparison has one leaf and no operators.
type condition struct {
	root      *node
	leaves    []*leaf
	operators int
}

// node is an operator with two operands, or a leaf.
type node struct {
	leaf        *leaf
	or          bool
	id          int // of the operator, for the match keys that members carry
	left, right *node
	// on lists the labels that must agree where isOn, else those that are ignored.
	isOn   bool
	labels []string
}

// leaf is one comparison.
type leaf struct {
	index   int
	name    string // metric name
	filters []filter
	op      operator
	limit   float64
}

// filter is one label matcher.
type filter struct {
	label, value string
	re           *regexp.Regexp
	negative     bool
}

type operator uint8

const (
	opGreater operator = iota + 1
	opGreaterEqual
	opLess
	opLessEqual
	opEqual
	opNotEqual
)

var (
	operators = map[string]operator{">": opGreater, ">=": opGreaterEqual, "<": opLess, "<=": opLessEqual, "==": opEqual, "!=": opNotEqual}
	mirrored  = map[string]operator{"<": opGreater, "<=": opGreaterEqual, ">": opLess, ">=": opLessEqual, "==": opEqual, "!=": opNotEqual}
)

// holds compares a reading with the limit.
func (o operator) holds(v, limit float64) bool {
	switch o {
	case opGreater:
		return v > limit
	case opGreaterEqual:
		return v >= limit
	case opLess:
		return v < limit
	case opLessEqual:
		return v <= limit
	case opEqual:
		return v == limit
	case opNotEqual:
		return v != limit
	}
	return false
}

// classify returns the condition of an expression that one reading can decide, nil for any other.
func classify(e metricsql.Expr) *condition {
	c := &condition{}
	c.root = c.build(e)
	if c.root == nil {
		return nil
	}
	return c
}

func (c *condition) build(e metricsql.Expr) *node {
	b, ok := e.(*metricsql.BinaryOpExpr)
	if !ok || !plain(b) {
		return nil
	}
	if b.Op == "and" || b.Op == "or" {
		return c.buildOperator(b)
	}
	if b.GroupModifier.Op != "" {
		return nil
	}
	l := comparison(b)
	if l == nil {
		return nil
	}
	l.index = len(c.leaves)
	c.leaves = append(c.leaves, l)
	return &node{leaf: l}
}

// buildOperator refuses operators that could match series of two boards.
func (c *condition) buildOperator(b *metricsql.BinaryOpExpr) *node {
	n := &node{or: b.Op == "or", isOn: b.GroupModifier.Op == "on", labels: b.GroupModifier.Args, id: c.operators}
	if n.isOn != slices.Contains(n.labels, alert.BoardLabel) {
		return nil
	}
	c.operators++
	if n.left = c.build(b.Left); n.left == nil {
		return nil
	}
	if n.right = c.build(b.Right); n.right == nil {
		return nil
	}
	return n
}

// comparison returns the leaf of `selector op number` or `number op selector`.
func comparison(b *metricsql.BinaryOpExpr) *leaf {
	sel, num, ops := b.Left, b.Right, operators
	if _, ok := sel.(*metricsql.NumberExpr); ok {
		sel, num, ops = b.Right, b.Left, mirrored
	}
	m, ok := sel.(*metricsql.MetricExpr)
	if !ok {
		return nil
	}
	n, ok := num.(*metricsql.NumberExpr)
	if !ok || ops[b.Op] == 0 || len(m.LabelFilterss) != 1 {
		return nil
	}
	l := &leaf{op: ops[b.Op], limit: n.N}
	for _, lf := range m.LabelFilterss[0] {
		if !l.addFilter(lf) {
			return nil
		}
	}
	if l.name == "" {
		return nil
	}
	return l
}

func (l *leaf) addFilter(lf metricsql.LabelFilter) bool {
	if lf.Label == series.NameLabel {
		if lf.IsRegexp || lf.IsNegative || l.name != "" {
			return false
		}
		l.name = lf.Value
		return true
	}
	f := filter{label: lf.Label, value: lf.Value, negative: lf.IsNegative}
	if lf.IsRegexp {
		re, err := metricsql.CompileRegexpAnchored(lf.Value)
		if err != nil {
			return false
		}
		f.re = re
	}
	l.filters = append(l.filters, f)
	return true
}

// matches reports whether the series with these labels is selected; a label that is absent is "".
func (l *leaf) matches(labels []series.Label) bool {
	for _, f := range l.filters {
		v := series.Get(labels, f.label)
		hit := v == f.value
		if f.re != nil {
			hit = f.re.MatchString(v)
		}
		if hit == f.negative {
			return false
		}
	}
	return true
}
