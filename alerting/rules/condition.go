package rules

import (
	"regexp"
	"slices"
	"strings"

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

// Comparison is a rule's first comparison: an expression and the number that it is compared with.
type Comparison struct {
	Metric string // of its first selector
	Unit   string // a metric name with the unit of expr, empty where expr has another
	Expr   string
	op     operator // 0 where the rule compares with no number
	Limit  float64
}

// HasLimit reports whether the rule compares with a number.
func (x *Comparison) HasLimit() bool { return x.op != 0 }

// LowIsBad reports whether the rule fires below its number.
func (x *Comparison) LowIsBad() bool { return x.op == opLess || x.op == opLessEqual }

// Comparison reads a rule's first comparison with a number, its selectors narrowed to some series; false where the rule
// is not in force.
func (e *Engine) Comparison(ruleID string, narrow []metricsql.LabelFilter) (Comparison, bool) {
	e.mu.Lock()
	rule := e.byID[alert.BaseRule(ruleID)]
	e.mu.Unlock()
	if rule == nil {
		return Comparison{}, false
	}
	expr, err := metricsql.Parse(rule.Expr)
	if err != nil {
		return Comparison{}, false
	}
	x := Comparison{}
	expr, x.op, x.Limit = compared(expr)
	metricsql.VisitAll(expr, func(e metricsql.Expr) {
		m, ok := e.(*metricsql.MetricExpr)
		if !ok {
			return
		}
		for i := range m.LabelFilterss {
			if x.Metric == "" && len(m.LabelFilterss[i]) > 0 && m.LabelFilterss[i][0].Label == series.NameLabel {
				x.Metric = m.LabelFilterss[i][0].Value
			}
			m.LabelFilterss[i] = append(m.LabelFilterss[i], narrow...)
		}
	})
	x.Expr = string(expr.AppendString(nil))
	if keepsUnit(expr) {
		x.Unit = x.Metric
	}
	return x, true
}

// keepsUnit reports whether an expression has the unit of its selector.
func keepsUnit(e metricsql.Expr) bool {
	switch e := e.(type) {
	case *metricsql.MetricExpr:
		return true
	case *metricsql.RollupExpr:
		return keepsUnit(e.Expr)
	case *metricsql.FuncExpr:
		return len(e.Args) == 1 && slices.Contains([]string{"avg_over_time", "min_over_time", "max_over_time", "last_over_time", "abs"}, strings.ToLower(e.Name)) &&
			keepsUnit(e.Args[0])
	case *metricsql.AggrFuncExpr:
		return len(e.Args) == 1 && slices.Contains([]string{"min", "max", "avg", "sum"}, strings.ToLower(e.Name)) && keepsUnit(e.Args[0])
	}
	return false
}

// compared returns the first side of e that is compared with a number, and all of e where there is none.
func compared(e metricsql.Expr) (metricsql.Expr, operator, float64) {
	b, ok := e.(*metricsql.BinaryOpExpr)
	if !ok {
		return e, 0, 0
	}
	if b.Op == "and" || b.Op == "or" || b.Op == "unless" || b.Op == "if" {
		if side, op, limit := compared(b.Left); op != 0 {
			return side, op, limit
		}
		return e, 0, 0
	}
	if n, ok := b.Right.(*metricsql.NumberExpr); ok && operators[b.Op] != 0 {
		return b.Left, operators[b.Op], n.N
	}
	if n, ok := b.Left.(*metricsql.NumberExpr); ok && mirrored[b.Op] != 0 {
		return b.Right, mirrored[b.Op], n.N
	}
	return e, 0, 0
}
