package alerting

import (
	"cmp"
	"context"
	"slices"
	"time"

	"bramble/alerting/alert"
)

// RuleCount is what a rule led to in a time.
type RuleCount struct {
	Rule             string
	Incidents, Pages int
	// Boards are those that its incidents touched, in order.
	Boards []string
}

// CountPages counts incidents that began between two times, and the pages written for them, by the name of the alert.
// Recorded ones, which page nobody, count as incidents.
func (p *Pager) CountPages(ctx context.Context, from, to time.Time) ([]RuleCount, error) {
	found, err := queryIncidents(ctx, p.db, `WHERE opened_at >= ? AND opened_at < ?`, from.UnixMilli(), to.UnixMilli())
	if err != nil {
		return nil, err
	}
	byRule := map[string]*RuleCount{}
	for _, in := range found {
		pages, err := queryPages(ctx, p.db, in.ID)
		if err != nil {
			return nil, err
		}
		name := in.Alerts[0].Labels[alert.NameLabel]
		c := byRule[name]
		if c == nil {
			c = &RuleCount{Rule: name}
			byRule[name] = c
		}
		c.Incidents++
		c.Pages += len(pages)
		for _, a := range in.Alerts {
			c.Boards = append(c.Boards, a.Boards...)
			if b := a.Labels[alert.BoardLabel]; b != "" {
				c.Boards = append(c.Boards, b)
			}
		}
	}
	out := make([]RuleCount, 0, len(byRule))
	for _, c := range byRule {
		slices.Sort(c.Boards)
		c.Boards = slices.Compact(c.Boards)
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b RuleCount) int { return cmp.Or(cmp.Compare(b.Pages, a.Pages), cmp.Compare(a.Rule, b.Rule)) })
	return out, nil
}
