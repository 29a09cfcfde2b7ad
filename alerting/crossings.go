package alerting

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Crossing is a board whose readings of a time crossed a rule's line.
type Crossing struct {
	Rule  string // the alert's name
	Board string
	// Extreme is the reading furthest beyond the line.
	Extreme float64
}

// extremes are the functions that find the reading furthest beyond a line.
var extremes = map[operator]string{opGreater: "max_over_time", opGreaterEqual: "max_over_time", opLess: "min_over_time", opLessEqual: "min_over_time"}

// Crossings asks the store which boards crossed the line of a rule between two times, whether or not an alert came of
// it: a reading of a backlog is stored, and older than what the rule has seen already. It looks at the rules in force
// that compare one series with a number, have no `for`, and page for a board alone.
func (e *Engine) Crossings(ctx context.Context, q Querier, from, to time.Time) (out []Crossing, err error) {
	e.mu.Lock()
	rules := e.rules
	e.mu.Unlock()
	for r := range rules.All() {
		if r.condition == nil || r.condition.root.leaf == nil || r.For != 0 || r.Labels[pagesLabel] == pagesDomains {
			continue
		}
		l := r.condition.root.leaf
		query, exact := l.extreme(to.Sub(from))
		if query == "" {
			continue
		}
		found, err := q.Query(ctx, query, to)
		if err != nil {
			return nil, fmt.Errorf("look for crossings of rule %s: %w", r.Name, err)
		}
		for _, f := range found {
			v := f.Values[0]
			if exact {
				v = l.limit
			}
			if board := labelValue(f.Labels, boardLabel); board != "" && l.matches(f.Labels) && l.op.holds(v, l.limit) {
				out = append(out, Crossing{r.Name, board, v})
			}
		}
	}
	slices.SortFunc(out, func(a, b Crossing) int { return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Board, b.Board)) })
	return slices.CompactFunc(out, func(a, b Crossing) bool { return a.Rule == b.Rule && a.Board == b.Board }), nil
}

// extreme is the query for the reading furthest beyond a line. For a rule that asks for one value exactly, such as 1 of a
// bit, it counts its readings. "" stands for a comparison that has no extreme.
func (l *leaf) extreme(d time.Duration) (query string, exact bool) {
	window := strconv.FormatInt(int64(d.Seconds()), 10) + "s"
	if f := extremes[l.op]; f != "" {
		return fmt.Sprintf("%s(%s[%s])", f, l.name, window), false
	}
	if l.op == opEqual {
		return fmt.Sprintf("count_eq_over_time(%s[%s], %s) > 0", l.name, window, strconv.FormatFloat(l.limit, 'g', -1, 64)), true
	}
	return "", false
}
