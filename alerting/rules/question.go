package rules

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metricsql"

	"bramble/storage/series"
)

// question is a query of a rule to the store. Rules that compare the same expression in the same direction with several
// numbers, such as a warning and a critical one, ask one question together, with the loosest of the numbers, and each
// keeps the part of the answer that its own number leaves. The zero value asks nothing.
type question struct {
	text string
	// shared names those that may ask together, "" for none; op and limit are then the rule's own.
	shared string
	op     operator
	limit  float64
}

func questionOf(text string, e metricsql.Expr) question {
	q := question{text: text}
	b, ok := e.(*metricsql.BinaryOpExpr)
	if !ok || !plain(b) || b.GroupModifier.Op != "" {
		return q
	}
	n, ok := b.Right.(*metricsql.NumberExpr)
	if !ok || math.IsNaN(n.N) || math.IsInf(n.N, 0) {
		return q
	}
	switch op := operators[b.Op]; op {
	case opGreater, opGreaterEqual, opLess, opLessEqual:
		q.shared, q.op, q.limit = "("+string(b.Left.AppendString(nil))+") "+b.Op+" ", op, n.N
	}
	return q
}

// plain reports whether an operator has none of the modifiers that change how it combines its operands.
func plain(b *metricsql.BinaryOpExpr) bool {
	return !b.Bool && !b.KeepMetricNames && b.JoinModifier.Op == "" && b.FillLeft == nil && b.FillRight == nil
}

// own returns the part of the answer that the rule's own limit leaves.
func (q *question) own(found []series.Result) []series.Result {
	if q.shared == "" {
		return found
	}
	fails := func(r series.Result) bool {
		return len(r.Values) == 0 || !q.op.holds(r.Values[len(r.Values)-1], q.limit)
	}
	if !slices.ContainsFunc(found, fails) {
		return found
	}
	return slices.DeleteFunc(slices.Clone(found), fails) // others may look at found
}

// guardOf returns the question that must have a result for `a and b` to have one: the operand that is a comparison and reads the
// fewest series. A rule that is quiet then costs that operand alone; the store would evaluate both.
func guardOf(e metricsql.Expr) (guard question) {
	b, ok := e.(*metricsql.BinaryOpExpr)
	if !ok || b.Op != "and" {
		return question{}
	}
	fewest := selectors(e)
	for _, operand := range []metricsql.Expr{b.Left, b.Right} {
		c, ok := operand.(*metricsql.BinaryOpExpr)
		if n := selectors(operand); ok && operators[c.Op] != 0 && !c.Bool && n > 0 && n < fewest {
			guard, fewest = questionOf(string(operand.AppendString(nil)), operand), n
		}
	}
	return guard
}

// selectors counts the selectors of an expression.
func selectors(e metricsql.Expr) (n int) {
	metricsql.VisitAll(e, func(e metricsql.Expr) {
		if _, ok := e.(*metricsql.MetricExpr); ok {
			n++
		}
	})
	return n
}

// shareQuestions gives those that may ask together one text.
func (r *Rules) shareQuestions() {
	together := map[string][]*question{}
	for rule := range r.All() {
		for _, q := range []*question{&rule.asks, &rule.guard} {
			if q.shared != "" && !rule.OnArrival() {
				together[q.shared] = append(together[q.shared], q)
			}
		}
	}
	for base, qs := range together {
		loosest := slices.MaxFunc(qs, func(a, b *question) int { return a.op.compareLimits(a.limit, b.limit) })
		for _, q := range qs {
			if len(qs) > 1 {
				q.text = base + strconv.FormatFloat(loosest.limit, 'g', -1, 64)
			}
		}
	}
}

// compareLimits orders limits by how many values pass them.
func (o operator) compareLimits(a, b float64) int {
	if o == opLess || o == opLessEqual {
		return cmp.Compare(a, b)
	}
	return cmp.Compare(b, a)
}

// answers is a Querier for one evaluation: a question of several rules is asked once. It is for one goroutine.
type answers struct {
	Querier
	asked map[asked]int // by how many rules
	found map[asked]answer
}

type asked struct {
	text   string
	offset time.Duration
}

type answer struct {
	found []series.Result
	err   error
}

// answersFor returns one for all rules of the groups.
func answersFor(groups []*Group, q Querier) *answers {
	a := &answers{Querier: q, asked: map[asked]int{}, found: map[asked]answer{}}
	for _, g := range groups {
		for _, r := range g.Rules {
			for _, text := range []string{r.asks.text, r.guard.text, r.presence} {
				if !r.OnArrival() && r.Record == "" {
					a.asked[asked{text, g.Offset}]++
				}
			}
		}
	}
	return a
}

// ask returns the answer, which the caller must not change.
func (a *answers) ask(ctx context.Context, text string, now time.Time, offset time.Duration) ([]series.Result, error) {
	k := asked{text, offset}
	if got, ok := a.found[k]; ok {
		return got.found, got.err
	}
	found, err := a.Query(ctx, text, now.Add(-offset))
	if a.asked[k] > 1 { // others are not kept: each may have a result for every board
		a.found[k] = answer{found, err}
	}
	return found, err
}

// recorded forgets all answers: the store has something new.
func (a *answers) recorded() { clear(a.found) }

// choosers are aggregates that leave series out, for their values: a series that is not chosen any more has not vanished.
var choosers = []string{"topk", "bottomk", "topk_avg", "topk_max", "topk_median", "topk_min", "topk_last", "bottomk_avg", "bottomk_max",
	"bottomk_median", "bottomk_min", "bottomk_last", "outliersk"}

// presence returns the expression whose result holds every series that could be in e's: e without its
// filters, wherever they stand. A series in neither has vanished; one that is only here has recovered. It is "" where e
// filters nothing, so that absence from its result is all there is to know.
func presence(e metricsql.Expr) string {
	if usesAbsent(e) {
		return ""
	}
	copied, err := metricsql.Parse(string(e.AppendString(nil))) // unfiltered changes it
	if err != nil {
		return ""
	}
	filtered := false
	text := string(unfiltered(copied, &filtered).AppendString(nil))
	if !filtered {
		return ""
	}
	return text
}

// usesAbsent reports whether e has series because others are missing: their end is a recovery.
func usesAbsent(e metricsql.Expr) (found bool) {
	metricsql.VisitAll(e, func(e metricsql.Expr) {
		if f, ok := e.(*metricsql.FuncExpr); ok && strings.HasPrefix(strings.ToLower(f.Name), "absent") {
			found = true
		}
	})
	return found
}

// unfiltered takes filters by value out of e, and sets filtered where there was such a thing.
func unfiltered(e metricsql.Expr, filtered *bool) metricsql.Expr {
	switch e := e.(type) {
	case *metricsql.BinaryOpExpr:
		return unfilteredOperator(e, filtered)
	case *metricsql.FuncExpr:
		unfilteredArgs(e.Args, filtered)
	case *metricsql.AggrFuncExpr:
		unfilteredArgs(e.Args, filtered)
		if slices.Contains(choosers, strings.ToLower(e.Name)) && len(e.Args) > 1 {
			*filtered = true
			return e.Args[1]
		}
	case *metricsql.RollupExpr:
		e.Expr = unfiltered(e.Expr, filtered)
	}
	return e
}

func unfilteredArgs(args []metricsql.Expr, filtered *bool) {
	for i := range args {
		args[i] = unfiltered(args[i], filtered)
	}
}

func unfilteredOperator(b *metricsql.BinaryOpExpr, filtered *bool) metricsql.Expr {
	b.Left, b.Right = unfiltered(b.Left, filtered), unfiltered(b.Right, filtered)
	switch b.Op {
	case "and", "unless", "if", "ifnot":
		*filtered = true
		return b.Left
	}
	if operators[b.Op] == 0 || b.Bool {
		return b
	}
	*filtered = true
	if _, ok := b.Left.(*metricsql.NumberExpr); ok {
		return b.Right
	}
	return b.Left
}
