package rules

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"bramble/alerting/alert"
	"bramble/storage/series"
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
// it: a reading of a backlog is stored, and older than the readings that the rule has seen already. It looks at the rules in force
// that compare one series with a number, page for a board alone, and have no `for` or one of less than a second: such a
// rule asks for a second reading, so a board with a single reading beyond its line has not crossed it.
func (e *Engine) Crossings(ctx context.Context, q Querier, from, to time.Time) (out []Crossing, err error) {
	e.mu.Lock()
	rules := e.rules
	e.mu.Unlock()
	for r := range rules.All() {
		if r.condition == nil || r.condition.root.leaf == nil || r.For >= time.Second || r.Labels[alert.PagesLabel] == alert.PagesDomains {
			continue
		}
		l := r.condition.root.leaf
		query, exact := l.extreme(to.Sub(from), r.For > 0)
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
			if board := series.Get(f.Labels, alert.BoardLabel); board != "" && l.matches(f.Labels) && l.op.holds(v, l.limit) {
				out = append(out, Crossing{r.Name, board, v})
			}
		}
	}
	slices.SortFunc(out, func(a, b Crossing) int { return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Board, b.Board)) })
	return slices.CompactFunc(out, func(a, b Crossing) bool { return a.Rule == b.Rule && a.Board == b.Board }), nil
}

// extreme is the query for the reading furthest beyond a line, of boards with at least two such readings where twice is
// set. For a rule that asks for one value exactly, such as 1 of a bit, it counts its readings. "" stands for a comparison
// that has no extreme.
func (l *leaf) extreme(d time.Duration, twice bool) (query string, exact bool) {
	in := fmt.Sprintf("%s[%ds]", l.name, int64(d.Seconds()))
	enough := "> 0"
	if twice {
		enough = "> 1"
	}
	if l.op == opEqual {
		return countQuery(in, "count_eq_over_time", l.limit) + enough, true
	}
	f := extremes[l.op]
	if f == "" {
		return "", false
	}
	query = fmt.Sprintf("%s(%s)", f, in)
	if !twice {
		return query, false
	}
	// The store counts readings above a number and those up to one: ">= x" is above the number just below x.
	limit := l.limit
	if l.op == opGreaterEqual || l.op == opLess {
		limit = math.Nextafter(limit, math.Inf(-1))
	}
	count := "count_gt_over_time"
	if f == "min_over_time" {
		count = "count_le_over_time"
	}
	return query + " if (" + countQuery(in, count, limit) + enough + ")", false
}

func countQuery(in, function string, limit float64) string {
	return fmt.Sprintf("%s(%s, %s) ", function, in, strconv.FormatFloat(limit, 'g', -1, 64))
}
