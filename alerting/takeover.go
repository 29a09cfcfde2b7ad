package alerting

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"google.golang.org/protobuf/encoding/protodelim"

	"bramble/alerting/alert"
	"bramble/alerting/database"
)

// takeoverSchema says which incidents another one has alerts from: whoever was paged for them before hears of its end.
// A former one is folded where it was taken over as a whole, by a failure of what its boards share or since routes changed; else it
// goes on without them.
const takeoverSchema = `
CREATE TABLE incident_former (
	incident TEXT NOT NULL,
	former TEXT NOT NULL,
	folded INTEGER NOT NULL,
	at INTEGER NOT NULL,
	PRIMARY KEY (incident, former)
) STRICT, WITHOUT ROWID;
CREATE INDEX incident_former_former ON incident_former (former);
`

// takeOver notes which incidents a notification's alerts come from.
func (e *escalating) takeOver(in *Incident, n *notification, fresh bool) error {
	for _, p := range n.parted {
		err := errors.Join(e.former(in, p.Incident, false),
			e.event(in.ID, "moved", "", "the routes changed: its alerts were part of incident #%d", p.Number))
		if err != nil {
			return err
		}
	}
	if fresh && in.Ack != nil {
		if err := e.keepAck(in); err != nil {
			return err
		}
	}
	return e.fold(in, n)
}

// standAlone frees an incident that was folded: what is left of the larger failure is its own again.
func (e *escalating) standAlone(in *Incident) error {
	return e.exec("free incident "+in.ID, `DELETE FROM incident_former WHERE former = ? AND folded = 1`, in.ID)
}

// standsFor reports whether an alert of a domain is about the failure that another alert is a part of: one of a board,
// or of a smaller domain.
func (a *IncidentAlert) standsFor(b *IncidentAlert) bool {
	t := alert.Transition{Rule: a.Rule, Labels: a.Labels}
	d, ok := alert.DomainOf(&t)
	if !ok || a.EndsAt != 0 || b.Rule == "" || alert.BaseRule(a.Rule) != alert.BaseRule(b.Rule) || !d.Holds(b.Labels) {
		return false
	}
	t = alert.Transition{Rule: b.Rule, Labels: b.Labels}
	smaller, ok := alert.DomainOf(&t)
	return !ok || smaller.Rank() < d.Rank()
}

// fold ends the incidents whose boards the domain's alerts of a notification stand for, all that fire of them: who was paged for
// the first boards of a failure sees one incident take over. Nothing of them escalates any more, what waits for its provider
// is stopped, and what is left alone when the domain is well pages anew. An acknowledgement of a few boards does not
// acknowledge a larger failure; the page says who gave it.
func (e *escalating) fold(in *Incident, n *notification) error {
	if !slices.ContainsFunc(n.alerts, func(a IncidentAlert) bool { return a.EndsAt == 0 && alert.IsDomainRule(a.Rule) }) {
		return nil
	}
	if err := e.c.QueryRowContext(e.ctx, `SELECT number FROM incident WHERE id = ?`, in.ID).Scan(&in.Number); err != nil {
		return fmt.Errorf("read number of incident %s: %w", in.ID, err)
	}
	open, err := queryIncidents(e.ctx, e.c, `WHERE resolved_at = 0 AND id <> ? ORDER BY number`, in.ID)
	if err != nil {
		return err
	}
	for _, other := range open {
		if !other.partOf(n.alerts) {
			continue
		}
		if err := e.foldOne(in, other); err != nil {
			return err
		}
	}
	return nil
}

// partOf reports whether alerts stand for all that fires of an incident.
func (in *Incident) partOf(alerts []IncidentAlert) bool {
	fires := 0
	for i := range in.Alerts {
		b := &in.Alerts[i]
		if b.EndsAt != 0 {
			continue
		}
		fires++
		if !slices.ContainsFunc(alerts, func(a IncidentAlert) bool { return a.standsFor(b) }) {
			return false
		}
	}
	return fires > 0
}

func (e *escalating) foldOne(in, other *Incident) error {
	if err := e.quiet(other.ID, "a larger failure stands for it"); err != nil {
		return err
	}
	by := ""
	if other.Ack != nil {
		by = ", acknowledged by " + other.Ack.By
	}
	if err := e.forgetGroups(other, func(uint64) bool { return true }); err != nil {
		return err
	}
	e.folded = append(e.folded, other)
	return errors.Join(
		e.endQuietly(other, fmt.Sprintf("part of a larger failure: it goes on in incident #%d", in.Number)),
		e.event(in.ID, "moved", "", "it takes over incident #%d%s: %s", other.Number, by, other.Title),
		e.former(in, other, true))
}

// forgetFolded makes alerts of incidents that were folded such as nobody was paged for.
func (p *Pager) forgetFolded(e *escalating) {
	for _, entry := range e.notices {
		if err := p.notified.Merge(entry); err != nil {
			p.log.Error("note a notification", "err", err)
		}
	}
	p.inbox.mu.Lock()
	defer p.inbox.mu.Unlock()
	for _, in := range e.folded {
		for _, a := range in.Alerts {
			delete(p.inbox.told, alert.LabelSet(a.Labels).Fingerprint())
		}
	}
}

// former notes that in has alerts of other; where that is over, also what it had from others.
func (e *escalating) former(in, other *Incident, folded bool) error {
	if folded {
		err := e.exec("move what incident "+other.ID+" took over", `UPDATE OR REPLACE incident_former SET incident = ? WHERE incident = ? AND former <> ?`,
			in.ID, other.ID, in.ID)
		if err != nil {
			return err
		}
	}
	return e.exec("write what incident "+in.ID+" takes over", `INSERT OR REPLACE INTO incident_former (incident, former, folded, at) VALUES (?,?,?,?)`,
		in.ID, other.ID, folded, e.now)
}

func (e *escalating) forgetGroups(in *Incident, which func(hash uint64) bool) error {
	keys, err := groupsOf(e.ctx, e.c, in)
	for _, key := range keys {
		if err == nil {
			err = e.forgetNotified(key, which)
		}
	}
	return err
}

// forgetNotified makes what fires in a group news when the group is notified again: all of it, or the alerts with these
// hashes.
func (e *escalating) forgetNotified(groupKey string, which func(hash uint64) bool) error {
	rows, err := e.c.QueryContext(e.ctx, `SELECT entry FROM alert_notified WHERE group_key = ?`, groupKey)
	if err != nil {
		return fmt.Errorf("read notifications: %w", err)
	}
	defer rows.Close()
	var entries []*nflogpb.Entry
	for rows.Next() {
		var text []byte
		if err := rows.Scan(&text); err != nil {
			return fmt.Errorf("read notifications: %w", err)
		}
		var m nflogpb.MeshEntry
		if err := protodelim.UnmarshalFrom(bytes.NewReader(text), &m); err != nil {
			return fmt.Errorf("decode notification: %w", err)
		}
		entries = append(entries, m.Entry)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read notifications: %w", err)
	}
	for _, was := range entries {
		is := &notification{receiver: was.Receiver.GroupName, groupKey: groupKey, now: time.Now(), firing: slices.DeleteFunc(was.FiringAlerts, which), resolved: was.ResolvedAlerts}
		entry, err := recordNotified(e.ctx, e.c, is)
		if err != nil {
			return err
		}
		e.notices = append(e.notices, entry)
	}
	return nil
}

// overBecause is ErrResolved, with the incident that goes on where there is one.
func (e *escalating) overBecause(in *Incident) error {
	var number int64
	row := e.c.QueryRowContext(e.ctx, `SELECT i.number FROM incident_former f JOIN incident i ON i.id = f.incident WHERE f.former = ? AND f.folded = 1`, in.ID)
	switch err := row.Scan(&number); {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("incident %s: %w", in.ID, ErrResolved)
	case err != nil:
		return fmt.Errorf("read what took incident %s over: %w", in.ID, err)
	}
	return fmt.Errorf("incident #%d is part of a larger failure and goes on in incident #%d, which is to be acknowledged: %w", in.Number, number, ErrResolved)
}

// tookOver says, for the page, which incidents are part of one; empty where none is.
func tookOver(ctx context.Context, db database.Querier, incident string) (string, error) {
	formers, err := formersOf(ctx, db, incident)
	if err != nil {
		return "", err
	}
	var names []string
	for _, f := range formers {
		name := fmt.Sprintf("#%d", f.Number)
		if f.Ack != nil {
			name += " (acknowledged by " + f.Ack.By + ")"
		}
		if f.folded {
			names = append(names, name)
		}
	}
	switch len(names) {
	case 0:
		return "", nil
	case 1:
		return "Incident " + names[0] + " is part of it.", nil
	}
	return "Incidents " + alert.Enumerate(names) + " are part of it.", nil
}
