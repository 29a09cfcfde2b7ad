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
	"bramble/alerting/escalation"
	"bramble/alerting/incident"
	"bramble/alerting/maintenance"
	"bramble/alerting/outbox"
	"bramble/storage/statedb"
)

// Barrier returns when every transition delivered before is safe in the pager's own database: the alerts that still wait for
// its first page, or for its resolve, are written down, and with them those that the caller itself holds back; Held returns these
// after a restart. The caller calls it before it truncates its journal.
func (p *Pager) Barrier(held ...alert.Transition) error {
	p.takeIn()
	p.am.feedMu.Lock()
	defer p.am.feedMu.Unlock()
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

// load reads the knowledge of an earlier pager: the alerts of open incidents, handled alerts, and waiting ones.
func (b *inbox) load(ctx context.Context, db *sql.DB) error {
	open, err := incident.Find(ctx, db, `WHERE resolved_at = 0`)
	if err != nil {
		return err
	}
	b.mu.Lock()
	for _, in := range open {
		b.recall(in)
	}
	b.mu.Unlock()
	if err := b.loadHandled(ctx, db); err != nil {
		return err
	}
	waiting, err := loadTransitions(ctx, db, "alert_waiting")
	if err != nil {
		return err
	}
	if b.earlier, err = loadTransitions(ctx, db, "alert_held"); err != nil {
		return err
	}
	b.wrote = len(waiting) + len(b.earlier)
	if len(waiting) > 0 {
		b.put(delivery{transitions: waiting})
	}
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

func (b *inbox) loadHandled(ctx context.Context, db *sql.DB) error {
	err := statedb.Each(ctx, db, func(row *sql.Rows) error {
		var (
			t  alert.Transition
			at int64
		)
		err := row.Scan(&t.Rule, &t.Series, &at)
		b.handled[t.Key()] = at
		return err
	}, `SELECT rule, series, fired_at FROM alert_handled`)
	if err != nil {
		return fmt.Errorf("read handled alerts: %w", err)
	}
	return nil
}

func loadTransitions(ctx context.Context, db *sql.DB, table string) ([]alert.Transition, error) {
	out, err := statedb.All(ctx, db, func(row *sql.Rows) (t alert.Transition, err error) {
		var text []byte
		if err := row.Scan(&text); err != nil {
			return t, err
		}
		return alert.DecodeTransition(text)
	}, `SELECT transition FROM `+table+` ORDER BY seq`)
	if err != nil {
		return nil, fmt.Errorf("read waiting alerts: %w", err)
	}
	return out, nil
}

// handedOver notes the alerts of a notification, which frees the resolves that waited for it.
func (b *inbox) handedOver(n *escalation.Notification) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range n.Alerts {
		fp := alert.LabelSet(a.Labels).Fingerprint()
		if a.EndsAt == 0 {
			b.notified[fp] = true
			continue
		}
		delete(b.notified, fp)
		b.done(fp, a)
	}
	if b.held > 0 {
		b.signal()
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
			if _, err := p.pages.threads.GC(); err != nil {
				p.log.Error("clean thread log", "err", err)
			}
			p.faults.Run("close incidents whose alerts are over", func() {
				if err := p.closeOrphans(ctx, now); err != nil && ctx.Err() == nil {
					p.log.Error("close incidents whose alerts are over", "err", err)
				}
			})
			if now.Sub(pruned) < pruneEvery {
				continue
			}
			pruned = now
			p.faults.Run("drop old incidents", func() {
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
		led, err := p.escalation.Led(ctx, in)
		if err != nil {
			return err
		}
		if led && now.Sub(time.UnixMilli(in.ChangedAt)) < grace {
			continue
		}
		held := !slices.ContainsFunc(in.Alerts, func(a incident.Alert) bool { return !p.suppress.muted(alert.LabelSet(a.Labels)) })
		if err := p.escalation.CloseOver(in, held); err != nil {
			return err
		}
		p.inbox.forget(in)
		p.log.Info("incident closed: its alerts ended unseen by its receiver", "incident", in.ID)
		p.changed(in.ID)
	}
	return nil
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
		if stored, err := p.am.alerts.Get(alert.LabelSet(a.Labels).Fingerprint()); err == nil && !stored.Resolved() {
			return true
		}
	}
	return false
}

// committed uses the effects of a committed transaction.
func (p *Pager) committed(f *escalation.Effects) {
	p.faults.Run("forget merged incidents", func() {
		for _, entry := range f.Entries {
			if err := p.am.notified.Merge(entry); err != nil {
				p.log.Error("note a notification", "err", err)
			}
		}
		p.inbox.forgetMerged(f.Merged)
	})
	p.outbox.Cancel(func(l *outbox.Message) bool { return f.Stopped[l.ID] })
	p.outbox.Add(f.Messages)
	p.metrics.exhausted.Add(float64(f.Exhausted))
	p.metrics.unmanned.Add(float64(f.Gaps))
	for id := range f.Changed {
		p.changed(id)
	}
	if f.Incident != "" {
		p.changed(f.Incident)
	}
}

// forgetMerged makes alerts of merged incidents such as nobody was paged for.
func (b *inbox) forgetMerged(merged []*incident.Incident) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, in := range merged {
		for _, a := range in.Alerts {
			delete(b.notified, alert.LabelSet(a.Labels).Fingerprint())
		}
	}
}
