package ruletest

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metricsql"

	"bramble/alerting/rules"
	"bramble/storage/series"
)

// testShift moves a rules test that begins in 1970: the store's index cannot hold the first day of Unix time. The
// calendar of 1998 and the years behind it is that of 1970: leap years and days of the week are the same.
const testShift = 883_612_800 * time.Second

// shiftYears is testShift in years of the calendar.
const shiftYears = 28

// shiftedTimes are the functions whose result is a time: at the moved clock it is testShift too late.
var shiftedTimes = []string{"time", "start", "end", "timestamp", "timestamp_with_name", "tfirst_over_time", "tlast_over_time", "tlast_change_over_time",
	"tmin_over_time", "tmax_over_time"}

// shiftedQuerier answers queries as if nothing had been moved: expressions see the times that the test names.
type shiftedQuerier struct{ rules.Querier }

func (q shiftedQuerier) Query(ctx context.Context, expr string, at time.Time) ([]series.Result, error) {
	e, err := metricsql.Parse(expr)
	if err != nil {
		return nil, err
	}
	return q.Querier.Query(ctx, string(shiftExpr(e).AppendString(nil)), at)
}

// shiftExpr corrects every time in an expression.
func shiftExpr(e metricsql.Expr) metricsql.Expr {
	switch e := e.(type) {
	case *metricsql.BinaryOpExpr:
		e.Left, e.Right = shiftExpr(e.Left), shiftExpr(e.Right)
	case *metricsql.AggrFuncExpr:
		shiftArgs(e.Args)
	case *metricsql.RollupExpr:
		e.Expr = shiftExpr(e.Expr)
		if e.At != nil {
			e.At = arithmetic(shiftExpr(e.At), "+", testShift.Seconds())
		}
	case *metricsql.FuncExpr:
		shiftArgs(e.Args)
		name := strings.ToLower(e.Name)
		if slices.Contains(shiftedTimes, name) {
			return arithmetic(e, "-", testShift.Seconds())
		}
		if name == "year" && len(e.Args) == 0 {
			return arithmetic(e, "-", shiftYears)
		}
	}
	return e
}

func shiftArgs(args []metricsql.Expr) {
	for i := range args {
		args[i] = shiftExpr(args[i])
	}
}

func arithmetic(left metricsql.Expr, op string, right float64) metricsql.Expr {
	return &metricsql.BinaryOpExpr{Op: op, Left: left, Right: &metricsql.NumberExpr{N: right}}
}
