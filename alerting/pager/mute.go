package pager

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/database"
	"bramble/alerting/maintenance"
	"bramble/storage/statedb"
)

// mutes are the maintenances and ended silences, beside Alertmanager's own, for which alerts page nobody for a while, and the alerts that
// still fire when one ends. All methods are safe for concurrent use.
type mutes struct {
	am       *alertmanager
	inbox    *inbox
	suppress *suppressor
	commits  *database.Writer
	log      *slog.Logger
	// boardAlerts are the names of the rules about boards; nil: any rule may be.
	boardAlerts  func() []string
	maintenances *maintenance.Store

	mu sync.Mutex
	// silences are those that were in force when they were last looked at. One that is over holds until the page for the alerts it left
	// is written.
	silences map[string]watchedSilence
	began    time.Time // when Run began, zero before
}

// watching returns a silence that is in force, or over and not told yet, and that keeps an alert from paging; nil for none.
func (m *mutes) watching(labels model.LabelSet) *watchedSilence {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.silences {
		if w.matches(labels) {
			return &w
		}
	}
	return nil
}

// load reads the state of an earlier pager. Silences are loaded before.
func (m *mutes) load(ctx context.Context, fleet func() map[string]alert.Place) (err error) {
	if m.maintenances, err = maintenance.OpenWith(ctx, m.commits, fleet); err != nil {
		return err
	}
	left, err := readStillFiring(ctx, m.commits.DB)
	if err != nil {
		return err
	}
	for _, l := range left {
		m.inbox.left.add(l)
		m.inbox.put(delivery{transitions: []alert.Transition{l.alert}})
	}
	return m.loadWatched(ctx)
}

// loadWatched finds the silences that were in force when the earlier pager ended.
func (m *mutes) loadWatched(ctx context.Context) error {
	ids, err := statedb.All(ctx, m.commits.DB, statedb.Column[string], `SELECT id FROM alert_silence_watched`)
	if err != nil {
		return fmt.Errorf("read watched silences: %w", err)
	}
	for _, id := range ids {
		s, err := m.am.silences.QueryOne(ctx, silence.QIDs(id))
		if err != nil {
			continue // forgotten since: it ended days ago
		}
		w, err := watchSilence(s)
		if err != nil {
			return err
		}
		m.silences[id] = w
	}
	return nil
}

// follow notifies of alerts that still fire after maintenances and silences. The feed calls it once a second, after it
// has taken in the deliveries.
func (m *mutes) follow(now time.Time) {
	m.am.feedMu.Lock()
	defer m.am.feedMu.Unlock()
	m.mu.Lock()
	if m.began.IsZero() {
		m.began = now
	}
	began := m.began
	m.mu.Unlock()
	for _, x := range m.maintenances.Current() {
		if due := x.Due(began); due <= now.UnixMilli() {
			if err := m.closeMaintenance(x, now); err != nil {
				m.log.Error("close a maintenance; what it holds stays held", "number", x.Number, "err", err)
			}
		}
	}
	if err := m.followSilences(now, began); err != nil {
		m.log.Error("follow silences", "err", err)
	}
}

// closeMaintenance ends one for good: the alerts that still fire are on record in the transaction that closes it. The caller holds
// inbox.feedMu.
func (m *mutes) closeMaintenance(x *maintenance.Maintenance, now time.Time) error {
	members := m.findStillFiring(x.Parsed.Matches, func(labels model.LabelSet) bool {
		return m.maintenances.Holding(labels, now.UnixMilli(), x.Number) != nil || m.watching(labels) != nil
	})
	closed := *x
	closed.ClosedAt = now.UnixMilli()
	e := ending{
		id: fmt.Sprintf("maintenance %d", x.Number), name: leftByMaintenance, label: "maintenance", over: x.EndsAt,
		summary: fmt.Sprintf("did not come back after maintenance %d", x.Number), labels: equalities(x.Parsed),
		about: fmt.Sprintf("Maintenance %d (%s%s), begun by %s, ended at %s; boards had until %s.", x.Number, strings.Join(x.Matchers, ", "),
			quoted(x.Comment), x.By, bothZones(x.EndsAt), time.UnixMilli(now.UnixMilli()).UTC().Format("15:04:05 UTC")),
		boards: len(maintenance.Cover(x.Parsed, m.maintenances.Fleet(), nil).Boards),
	}
	var l *stillFiring
	if len(members) > 0 {
		l = e.stillFiring(members, now)
		closed.NotBack = l.alert.Boards
	}
	err := m.commits.Do(func(c *sql.Conn) error {
		if l != nil {
			if err := insertStillFiring(context.Background(), c, l); err != nil {
				return err
			}
		}
		return maintenance.Update(context.Background(), c, &closed)
	})
	if err != nil {
		return err
	}
	m.notifyStillFiring(l)
	m.maintenances.Replace(&closed)
	m.log.Info("maintenance is over", "number", x.Number, "not_back", len(closed.NotBack))
	return nil
}

// findStillFiring returns the alerts of boards whose condition holds, that were never paged, and that nothing else stands for.
func (m *mutes) findStillFiring(matches, stillHeld func(model.LabelSet) bool) (out []alert.Transition) {
	m.inbox.mu.Lock()
	for fp, l := range m.inbox.live {
		if len(l.firing) == 0 || m.inbox.notified[fp] || !alert.IsBoardAlert(&l.last) || m.inbox.inhibiting(l.last) != nil {
			continue
		}
		if labels := alert.LabelSet(l.last.Labels); matches(labels) && !stillHeld(labels) {
			l.suppressed = true
			out = append(out, l.last)
		}
	}
	m.inbox.mu.Unlock()
	out = slices.DeleteFunc(out, func(t alert.Transition) bool {
		return m.suppress.condition(t).Over != 0 || m.am.silencer.Mutes(context.Background(), alert.LabelSet(t.Labels))
	})
	sortMembers(out)
	return out
}

// notifyStillFiring puts the alert into Alertmanager's store, before the alerts that it represents are released.
func (m *mutes) notifyStillFiring(l *stillFiring) {
	if l == nil {
		return
	}
	var firing []*amalert.Alert
	m.inbox.mu.Lock()
	m.inbox.left.add(l)
	m.inbox.accept(l.alert, &firing)
	m.inbox.mu.Unlock()
	m.am.put(firing)
}

// followSilences keeps the list of silences in force, on disk as well, and notifies of alerts that still fire after one.
// The caller holds inbox.feedMu.
func (m *mutes) followSilences(now, began time.Time) error {
	active, _, err := m.am.silences.Query(context.Background(), silence.QState(silence.SilenceStateActive))
	if err != nil {
		return err
	}
	m.mu.Lock()
	known := maps.Clone(m.silences)
	m.mu.Unlock()
	current, fresh := map[string]bool{}, []string{}
	for _, s := range active {
		current[s.Id] = true
		w, err := watchSilence(s)
		if err != nil {
			return err
		}
		if _, ok := known[s.Id]; !ok {
			fresh = append(fresh, s.Id)
		}
		m.mu.Lock()
		m.silences[s.Id] = w
		m.mu.Unlock()
	}
	if len(fresh) > 0 {
		if err := m.noteSilences(fresh); err != nil {
			return err
		}
	}
	for id, w := range known {
		if current[id] || now.Before(silenceDue(m.endOf(w), began)) {
			continue
		}
		if err := m.closeSilence(w, now); err != nil {
			return err
		}
	}
	return nil
}

// endOf is when a silence ended: it may have been expired before its time.
func (m *mutes) endOf(w watchedSilence) time.Time {
	if s, err := m.am.silences.QueryOne(context.Background(), silence.QIDs(w.Id)); err == nil {
		return s.EndsAt.AsTime()
	}
	return w.EndsAt.AsTime()
}

// silenceDue is when the end of a silence is told: at once, but where it ended while no collector ran, the boards get
// a minute from the start on.
func silenceDue(end, began time.Time) time.Time {
	if end.Before(began) {
		return began.Add(maintenance.DefaultGrace)
	}
	return end
}

func (m *mutes) noteSilences(ids []string) error {
	return m.commits.Do(func(c *sql.Conn) error {
		for _, id := range ids {
			if _, err := c.ExecContext(context.Background(), `INSERT OR IGNORE INTO alert_silence_watched (id) VALUES (?)`, id); err != nil {
				return fmt.Errorf("note silence %s: %w", id, err)
			}
		}
		return nil
	})
}

// closeSilence notifies of alerts that still fire after a silence. A single alert pages by itself, as it would without the
// silence.
func (m *mutes) closeSilence(w watchedSilence, now time.Time) error {
	members := m.findStillFiring(w.matches, func(labels model.LabelSet) bool {
		return m.maintenances.Holding(labels, now.UnixMilli(), 0) != nil
	})
	paging := 0
	for i := range members {
		if pagesSomebody(&members[i]) {
			paging++
		}
	}
	var l *stillFiring
	if paging > 1 {
		var texts []string
		for _, ms := range w.sets {
			texts = append(texts, ms.String())
		}
		over := m.endOf(w).UnixMilli()
		l = ending{
			id: "silence " + w.Id, name: leftBySilence, label: "silence", over: over,
			summary: "are still not well after a silence", labels: map[string]string{},
			about: fmt.Sprintf("The silence of %s (%s%s) ended at %s.", w.CreatedBy, strings.Join(texts, " or "), quoted(w.Comment), bothZones(over)),
		}.stillFiring(members, now)
	}
	err := m.commits.Do(func(c *sql.Conn) error {
		if l != nil {
			if err := insertStillFiring(context.Background(), c, l); err != nil {
				return err
			}
		}
		_, err := c.ExecContext(context.Background(), `DELETE FROM alert_silence_watched WHERE id = ?`, w.Id)
		return err
	})
	if err != nil {
		return fmt.Errorf("tell what silence %s left: %w", w.Id, err)
	}
	m.notifyStillFiring(l)
	m.mu.Lock()
	delete(m.silences, w.Id)
	m.mu.Unlock()
	return nil
}

// forget drops the rows of those that are over. Where that fails, a restart finds them without members.
func (m *mutes) forget(ended []alert.Transition) {
	if len(ended) == 0 {
		return
	}
	err := m.commits.Do(func(c *sql.Conn) error {
		for _, t := range ended {
			if _, err := c.ExecContext(context.Background(), `DELETE FROM alert_still_firing WHERE id = ?`, strings.TrimPrefix(t.Rule, leftRulePrefix)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		m.log.Error("forget what a maintenance or a silence left", "err", err)
	}
}
