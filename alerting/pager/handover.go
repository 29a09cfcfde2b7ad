package pager

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/domain"
	"bramble/alerting/incident"
	"bramble/alerting/maintenance"
)

// Barrier returns when every transition delivered before is safe in the pager's own database: the alerts that still wait for
// its first page, or for its resolve, are written down, and with them those that the caller itself holds back; Held returns these
// after a restart. The caller calls it before it truncates its journal.
func (p *Pager) Barrier(held ...alert.Transition) error {
	p.takeIn()
	p.inbox.feedMu.Lock()
	defer p.inbox.feedMu.Unlock()
	waiting, was := p.inbox.waiting()
	if len(waiting) == 0 && len(held) == 0 && was == 0 {
		return nil
	}
	err := p.commits.Do(func(c *sql.Conn) error {
		return errors.Join(writeTransitions(context.Background(), c, "alert_waiting", waiting), writeTransitions(context.Background(), c, "alert_held", held))
	})
	if err != nil {
		return fmt.Errorf("write waiting alerts: %w", err)
	}
	p.inbox.mu.Lock()
	p.inbox.wrote = len(waiting) + len(held)
	p.inbox.mu.Unlock()
	return nil
}

// Held returns, once, the transitions that the last Barrier of an earlier pager was given.
func (p *Pager) Held() []alert.Transition {
	p.inbox.mu.Lock()
	defer p.inbox.mu.Unlock()
	held := p.inbox.earlier
	p.inbox.earlier = nil
	return held
}

// waiting returns the transitions that no page stands for yet, and how many rows hold earlier ones.
func (b *inbox) waiting() (out []alert.Transition, wrote int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for fp, l := range b.live {
		if b.notified[fp] && l.resolve == nil {
			continue
		}
		if l.resolve != nil {
			out = append(out, l.last, *l.resolve)
			continue
		}
		for _, t := range l.firing {
			out = append(out, t)
		}
	}
	slices.SortStableFunc(out, func(a, b alert.Transition) int { return cmp.Compare(domain.Order(a), domain.Order(b)) })
	return out, b.wrote
}

// writeTransitions replaces the rows of a table.
func writeTransitions(ctx context.Context, c *sql.Conn, table string, ts []alert.Transition) error {
	if _, err := c.ExecContext(ctx, `DELETE FROM `+table); err != nil {
		return err
	}
	for i, t := range ts {
		text, err := json.Marshal(t)
		if err != nil {
			return err
		}
		if _, err := c.ExecContext(ctx, `INSERT INTO `+table+` (seq, transition) VALUES (?,?)`, i, string(text)); err != nil {
			return err
		}
	}
	return nil
}

// loadInbox reads the knowledge of an earlier pager: the alerts of open incidents, handled alerts, and waiting ones.
func (p *Pager) loadInbox(ctx context.Context) error {
	open, err := incident.Find(ctx, p.db, `WHERE resolved_at = 0`)
	if err != nil {
		return err
	}
	p.inbox.mu.Lock()
	for _, in := range open {
		p.inbox.recall(in)
	}
	p.inbox.mu.Unlock()
	if err := p.loadHandled(ctx); err != nil {
		return err
	}
	waiting, err := p.loadTransitions(ctx, "alert_waiting")
	if err != nil {
		return err
	}
	if p.inbox.earlier, err = p.loadTransitions(ctx, "alert_held"); err != nil {
		return err
	}
	p.inbox.wrote = len(waiting) + len(p.inbox.earlier)
	p.Deliver(waiting)
	return nil
}

// recall takes in the alerts of an open incident that fired when the earlier pager ended. They go to Alertmanager's
// store only when the engine says that they fire, or that they do not.
func (b *inbox) recall(in *incident.Incident) {
	for _, a := range in.Alerts {
		if a.EndsAt != 0 {
			continue
		}
		b.notified[alert.LabelSet(a.Labels).Fingerprint()] = true
		if a.Rule != "" {
			t := alert.Transition{
				Rule: a.Rule, Series: a.Series, Labels: a.Labels, Annotations: a.Annotations, State: alert.Firing,
				At: a.StartsAt, Since: a.StartsAt, FiredAt: a.StartsAt, Boards: a.Boards,
			}
			b.represent.Note(t)
			b.fires(t)
		}
	}
}

func (p *Pager) loadHandled(ctx context.Context) error {
	rows, err := p.db.QueryContext(ctx, `SELECT rule, series, fired_at FROM alert_handled`)
	if err != nil {
		return fmt.Errorf("read handled alerts: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			t  alert.Transition
			at int64
		)
		if err := rows.Scan(&t.Rule, &t.Series, &at); err != nil {
			return fmt.Errorf("read handled alerts: %w", err)
		}
		p.inbox.handled[t.Key()] = at
	}
	return rows.Err()
}

func (p *Pager) loadTransitions(ctx context.Context, table string) (out []alert.Transition, err error) {
	rows, err := p.db.QueryContext(ctx, `SELECT transition FROM `+table+` ORDER BY seq`)
	if err != nil {
		return nil, fmt.Errorf("read waiting alerts: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, fmt.Errorf("read waiting alerts: %w", err)
		}
		t, err := alert.DecodeTransition([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("read waiting alerts: %w", err)
		}
		out = append(out, t)
	}
	return out, rows.Err()
}

// handedOver notes the alerts of a notification, which frees the resolves that waited for it.
func (p *Pager) handedOver(n *notification) {
	p.inbox.mu.Lock()
	defer p.inbox.mu.Unlock()
	for _, a := range n.alerts {
		fp := alert.LabelSet(a.Labels).Fingerprint()
		if a.EndsAt == 0 {
			p.inbox.notified[fp] = true
			continue
		}
		delete(p.inbox.notified, fp)
		p.inbox.done(fp, a)
	}
	if p.inbox.held > 0 {
		p.inbox.signal()
	}
}

// done forgets an alert whose resolve is handed over, unless it fires again already.
func (b *inbox) done(fp model.Fingerprint, a incident.Alert) {
	if a.Rule != "" {
		k := alert.Transition{Rule: a.Rule, Series: a.Series}.Key()
		b.handled[k] = max(b.handled[k], a.StartsAt)
	}
	if l := b.live[fp]; l != nil && len(l.firing) == 0 && l.resolve == nil {
		delete(b.live, fp)
	}
}

// tidy closes, once a minute until ctx ends, incidents that nothing will close any more, and drops old rows once a day.
func (p *Pager) tidy(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	pruned := time.Now() // by prepare
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if _, err := p.threads.GC(); err != nil {
				p.log.Error("clean thread log", "err", err)
			}
			p.faults.guard("close incidents whose alerts are over", func() {
				if err := p.closeOrphans(ctx, now); err != nil && ctx.Err() == nil {
					p.log.Error("close incidents whose alerts are over", "err", err)
				}
			})
			if now.Sub(pruned) < pruneEvery {
				continue
			}
			pruned = now
			p.faults.guard("drop old incidents", func() {
				if err := p.prune(now); err != nil {
					p.log.Error("drop old incidents: trying again in a day", "err", err)
				}
			})
		}
	}
}

// prune drops old rows of all tables.
func (p *Pager) prune(now time.Time) error {
	return p.commits.Do(func(c *sql.Conn) error {
		ctx := context.Background()
		return errors.Join(prune(ctx, c, now), maintenance.Prune(ctx, c, now))
	})
}

// closeOrphans resolves incidents whose alerts all ended without a notification that said so: a silence swallowed it,
// or a reload took the route away.
func (p *Pager) closeOrphans(ctx context.Context, now time.Time) error {
	open, err := incident.Find(ctx, p.db, `WHERE resolved_at = 0`)
	if err != nil {
		return err
	}
	// Groups have time to tell of it, where the routes still lead to them.
	grace := p.routing.Load().slowest + 2*time.Minute
	for _, in := range open {
		if p.anyFires(in) {
			continue
		}
		led, err := p.led(ctx, in)
		if err != nil {
			return err
		}
		if led && now.Sub(time.UnixMilli(in.ChangedAt)) < grace {
			continue
		}
		if err := p.closeOrphan(in); err != nil {
			return err
		}
		p.inbox.forget(in)
		p.log.Info("incident closed: its alerts ended unseen by its receiver", "incident", in.ID)
		p.changed(in.ID)
	}
	return nil
}

// closeOrphan ends an incident, unless it changed meanwhile. People who were paged are notified, but not while something holds
// its alerts.
func (p *Pager) closeOrphan(in *incident.Incident) error {
	held := !slices.ContainsFunc(in.Alerts, func(a incident.Alert) bool { return !p.muted(alert.LabelSet(a.Labels)) })
	var e *transaction
	err := p.commits.Do(func(c *sql.Conn) error {
		e = p.transaction(c)
		now, err := incident.Get(e.ctx, c, in.ID)
		if err != nil || now.ResolvedAt != 0 || now.ChangedAt != in.ChangedAt {
			return err
		}
		if held {
			return e.endQuietly(&now, "all alerts ended while they were silenced")
		}
		now.ResolvedAt, now.ChangedAt = e.now, e.now
		return errors.Join(incident.Save(e.ctx, c, &now), e.event(in.ID, "resolved", "", "all alerts ended"),
			e.endNotified(&now, "over before it was delivered"))
	})
	if err == nil {
		p.after(e)
	}
	return err
}

// forget drops the facts about a closed incident's alerts.
func (b *inbox) forget(in *incident.Incident) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range in.Alerts {
		fp := alert.LabelSet(a.Labels).Fingerprint()
		delete(b.notified, fp)
		b.done(fp, a)
	}
}

func (p *Pager) anyFires(in *incident.Incident) bool {
	for _, a := range in.Alerts {
		if stored, err := p.alerts.Get(alert.LabelSet(a.Labels).Fingerprint()); err == nil && !stored.Resolved() {
			return true
		}
	}
	return false
}
