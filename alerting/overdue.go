package alerting

import (
	"context"
	"fmt"
	"time"
)

// Overdue is what should have happened and did not.
type Overdue struct {
	// Steps of escalations, ends of snoozes and collected messages that are past their time.
	Steps int
	// Pages that could be tried and were not. A page that its provider refuses is not overdue while it is tried again.
	Pages int
	// Since is when the oldest of them was due.
	Since time.Time
}

// None reports whether nothing is overdue.
func (o Overdue) None() bool { return o.Steps+o.Pages == 0 }

// Overdue is the audit of the pager: it looks from outside of its loops for steps and pages that are past their time by
// more than a tolerance. An error means that nobody can tell.
func (p *Pager) Overdue(ctx context.Context, by time.Duration) (Overdue, error) {
	limit := p.clock.now() - by.Milliseconds()
	var (
		o     Overdue
		since int64
	)
	row := p.db.QueryRowContext(ctx, `SELECT count(*), coalesce(min(due_at), 0) FROM escalation_step WHERE state = 'pending' AND due_at < ?`, limit)
	if err := row.Scan(&o.Steps, &since); err != nil {
		return o, fmt.Errorf("read overdue steps: %w", err)
	}
	pages, oldest := p.mail.overdue(time.Now().Add(-by).UnixMilli())
	o.Pages = pages
	if oldest != 0 && (since == 0 || oldest < since) {
		since = oldest
	}
	if !o.None() {
		o.Since = time.UnixMilli(since)
	}
	return o, nil
}

// overdue counts the letters that nothing keeps from being tried since before a time, and tells when the oldest could
// have been.
func (m *mailroom) overdue(before int64) (n int, oldest int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, lane := range m.lanes {
		busy := map[string]bool{}
		full := countFlying(lane) >= laneWidth
		for _, l := range lane {
			if l.gone {
				continue
			}
			first := !busy[l.groupKey]
			busy[l.groupKey] = true
			if l.flying || !first || full || l.nextAt >= before {
				continue
			}
			n++
			if oldest == 0 || l.nextAt < oldest {
				oldest = l.nextAt
			}
		}
	}
	return n, oldest
}
