package alerting

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"bramble/alerting/alert"
)

const (
	// lateAfter is how long a step of the pager's own may be overdue.
	lateAfter = 30 * time.Second
	// failsAfter is how long a receiver may refuse a page until it is said that nobody hears.
	failsAfter = 5 * time.Minute
	// handOverAfter is how long an alert may fire that nothing holds, beyond its route's interval, without a page.
	handOverAfter = 5 * time.Minute
)

// overdue is the pager's own audit: it names what should have happened by now and has not.
func (p *Pager) overdue(now time.Time) error {
	if fed := p.inbox.fed.Load(); fed != 0 && now.UnixMilli()-fed > lateAfter.Milliseconds() {
		return fmt.Errorf("alerts have not been taken in for %s", ago(now, fed))
	}
	return errors.Join(p.mail.overdue(now), p.untold(now), p.lateStep())
}

func ago(now time.Time, ms int64) time.Duration {
	return now.Sub(time.UnixMilli(ms)).Round(time.Second)
}

// overdue finds pages that should have left: the first of each group, and whatever its receiver does not take.
func (m *mailroom) overdue(now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, lane := range m.lanes {
		first := map[string]bool{}
		for _, l := range lane {
			if l.gone || l.receiver == alert.Watchdog {
				continue
			}
			if now.UnixMilli()-l.createdAt > failsAfter.Milliseconds() {
				return fmt.Errorf("%s has not taken page %s for %s", name, l.id, ago(now, l.createdAt))
			}
			due := l.flownAt
			if !l.flying { // else whoever tries it writes nextAt
				due = l.nextAt
			}
			if !first[l.groupKey] && now.UnixMilli()-due > lateAfter.Milliseconds() {
				return fmt.Errorf("page %s to %s is overdue by %s", l.id, name, ago(now, due))
			}
			first[l.groupKey] = true
		}
	}
	return nil
}

// lateStep finds a step of an escalation, the end of a snooze or a collected message that is past its time.
func (p *Pager) lateStep() error {
	var (
		incident, kind string
		due            int64
		now            = p.clock.now()
	)
	row := p.db.QueryRow(`SELECT incident, kind, due_at FROM escalation_step WHERE state = 'pending' AND due_at < ? ORDER BY due_at LIMIT 1`, now-lateAfter.Milliseconds())
	switch err := row.Scan(&incident, &kind, &due); {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("read overdue steps: %w", err)
	}
	return fmt.Errorf("%s of incident %s is overdue by %s", kind, incident, time.Duration(now-due)*time.Millisecond)
}

// untold finds an alert that fires, that nothing holds, and that no page was written for. Where routes have time
// intervals, an alert may rightly wait for hours.
func (p *Pager) untold(now time.Time) error {
	r := p.routing.Load()
	if len(r.intervals) > 0 {
		return nil
	}
	limit := now.Add(-handOverAfter - r.slowest).UnixMilli()
	var late []alert.Transition
	p.inbox.mu.Lock()
	for fp, l := range p.inbox.live {
		if len(l.firing) > 0 && !p.inbox.told[fp] && l.last.Received < limit && l.last.FiredAt < limit && p.inbox.inhibiting(l.last) == nil {
			late = append(late, l.last)
		}
	}
	p.inbox.mu.Unlock()
	for _, t := range late {
		if !p.muted(alert.LabelSet(t.Labels)) {
			return fmt.Errorf("%s %s fires since %s, and no page was written", t.Labels[alert.NameLabel], t.Series, time.UnixMilli(t.FiredAt).UTC().Format("15:04:05 UTC"))
		}
	}
	return nil
}
