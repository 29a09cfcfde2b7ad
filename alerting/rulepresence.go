package alerting

import (
	"slices"
	"strings"

	"github.com/VictoriaMetrics/metricsql"
)

// choosers are aggregates that leave series out, for their values: a series that is not chosen any more has not vanished.
var choosers = []string{"topk", "bottomk", "topk_avg", "topk_max", "topk_median", "topk_min", "topk_last", "bottomk_avg", "bottomk_max",
	"bottomk_median", "bottomk_min", "bottomk_last", "outliersk"}

// presence returns the expression whose result holds every series that could be in e's: what is left of e without its
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

// unfiltered takes out of e what leaves series out for their values, and sets filtered where there was such a thing.
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
