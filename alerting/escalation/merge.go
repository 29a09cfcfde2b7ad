package escalation

import (
	"bytes"
	"cmp"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/encoding/protodelim"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/outbox"
	"bramble/storage/statedb"
)

// noteOrigins notes which incidents a notification's alerts come from.
func (e grouping) noteOrigins(in *incident.Incident, n *Notification, fresh bool) error {
	for _, p := range n.splitFrom {
		err := errors.Join(e.noteMerged(in, p.Incident, false),
			e.tx.event(in.ID, "moved", "", "the routes changed: its alerts were part of incident #%d", p.Number))
		if err != nil {
			return err
		}
	}
	if fresh && in.Ack != nil {
		if err := e.keepAck(in); err != nil {
			return err
		}
	}
	return e.mergeParts(in, n)
}

// standAlone frees an incident that was merged: the rest of the larger failure is its own again.
func (e grouping) standAlone(in *incident.Incident) error {
	return e.tx.exec("free incident "+in.ID, `DELETE FROM incident_merged WHERE merged_from = ? AND whole = 1`, in.ID)
}

// mergeParts ends the incidents whose boards the domain's alerts of a notification stand for, all that fire of them: who was paged for
// the first boards of a failure sees one incident take over. Nothing of them escalates any more, a message that waits for its provider
// is stopped, and an alert that is left alone when the domain is well pages anew. An acknowledgement of a few boards does not
// acknowledge a larger failure; the page says who gave it.
func (e grouping) mergeParts(in *incident.Incident, n *Notification) error {
	if !slices.ContainsFunc(n.Alerts, func(a incident.Alert) bool { return a.EndsAt == 0 && alert.IsDomainRule(a.Rule) }) {
		return nil
	}
	if err := e.tx.c.QueryRowContext(e.tx.ctx, `SELECT number FROM incident WHERE id = ?`, in.ID).Scan(&in.Number); err != nil {
		return fmt.Errorf("read number of incident %s: %w", in.ID, err)
	}
	open, err := incident.Find(e.tx.ctx, e.tx.c, `WHERE resolved_at = 0 AND id <> ? ORDER BY number`, in.ID)
	if err != nil {
		return err
	}
	for _, other := range open {
		if !other.PartOf(n.Alerts) {
			continue
		}
		if err := e.mergeOne(in, other); err != nil {
			return err
		}
	}
	return nil
}

func (e grouping) mergeOne(in, other *incident.Incident) error {
	if err := e.tx.quiet(other.ID, "a larger failure stands for it"); err != nil {
		return err
	}
	by := ""
	if other.Ack != nil {
		by = ", acknowledged by " + other.Ack.By
	}
	if err := e.forgetGroups(other, func(uint64) bool { return true }); err != nil {
		return err
	}
	e.tx.Merged = append(e.tx.Merged, other)
	return errors.Join(
		e.tx.endQuietly(other, fmt.Sprintf("part of a larger failure: it goes on in incident #%d", in.Number)),
		e.tx.event(in.ID, "moved", "", "it takes over incident #%d%s: %s", other.Number, by, other.Title),
		e.noteMerged(in, other, true))
}

// noteMerged notes that in has alerts of other; where that is over, also the alerts that it had from others.
func (e grouping) noteMerged(in, other *incident.Incident, whole bool) error {
	if whole {
		err := e.tx.exec("move what incident "+other.ID+" took over", `UPDATE OR REPLACE incident_merged SET incident = ? WHERE incident = ? AND merged_from <> ?`,
			in.ID, other.ID, in.ID)
		if err != nil {
			return err
		}
	}
	return e.tx.exec("write what incident "+in.ID+" takes over", `INSERT OR REPLACE INTO incident_merged (incident, merged_from, whole, at) VALUES (?,?,?,?)`,
		in.ID, other.ID, whole, e.tx.now)
}

func (e grouping) forgetGroups(in *incident.Incident, which func(hash uint64) bool) error {
	keys, err := groupsOf(e.tx.ctx, e.tx.c, in)
	for _, key := range keys {
		if err == nil {
			err = e.forgetNotified(key, which)
		}
	}
	return err
}

// forgetNotified makes the firing alerts of a group news when the group is notified again: all of them, or those with these
// hashes.
func (e grouping) forgetNotified(groupKey string, which func(hash uint64) bool) error {
	entries, err := statedb.All(e.tx.ctx, e.tx.c, func(row *sql.Rows) (*nflogpb.Entry, error) {
		var (
			text []byte
			m    nflogpb.MeshEntry
		)
		if err := row.Scan(&text); err != nil {
			return nil, err
		}
		err := protodelim.UnmarshalFrom(bytes.NewReader(text), &m)
		return m.Entry, err
	}, `SELECT entry FROM alert_notified WHERE group_key = ?`, groupKey)
	if err != nil {
		return fmt.Errorf("read notifications: %w", err)
	}
	for _, was := range entries {
		is := &Notification{Receiver: was.Receiver.GroupName, GroupKey: groupKey, Now: time.Now(), Firing: slices.DeleteFunc(was.FiringAlerts, which), Resolved: was.ResolvedAlerts}
		entry, err := recordNotified(e.tx.ctx, e.tx.c, is)
		if err != nil {
			return err
		}
		e.tx.Entries = append(e.tx.Entries, entry)
	}
	return nil
}

// overBecause is ErrResolved, with the incident that goes on where there is one.
func (e *transaction) overBecause(in *incident.Incident) error {
	var number int64
	row := e.c.QueryRowContext(e.ctx, `SELECT i.number FROM incident_merged m JOIN incident i ON i.id = m.incident WHERE m.merged_from = ? AND m.whole = 1`, in.ID)
	switch err := row.Scan(&number); {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("incident %s: %w", in.ID, ErrResolved)
	case err != nil:
		return fmt.Errorf("read what took incident %s over: %w", in.ID, err)
	}
	return fmt.Errorf("incident #%d is part of a larger failure and goes on in incident #%d, which is to be acknowledged: %w", in.Number, number, ErrResolved)
}

// notifyMerged notifies receivers of the end that were paged for alerts of an incident while they were another's. A person hears of it
// once; a receiver of a route knows a merged incident by its own key, which is ended. They hear of it once, also where the
// incident opens and ends again.
func (e *transaction) notifyMerged(in *incident.Incident) error {
	merged, err := incident.MergedInto(e.ctx, e.c, in.ID)
	if err != nil || len(merged) == 0 {
		return err
	}
	heard := map[string]bool{}
	mine, err := e.channels(in.ID)
	if err != nil {
		return err
	}
	for _, c := range mine {
		heard[c.person] = true
	}
	for _, f := range merged {
		told, err := e.notifiedIntegrations(f.ID, f.At)
		if err != nil {
			return err
		}
		for _, t := range told {
			if t.person != "" && heard[t.person] {
				continue
			}
			if err := e.notifyMergedEnd(in, f, t); err != nil {
				return err
			}
		}
		for _, t := range told {
			heard[t.person] = true
		}
	}
	return e.exec("note that merged of incident "+in.ID+" heard of its end", `UPDATE incident_merged SET at = 0 WHERE incident = ?`, in.ID)
}

func (e *transaction) notifyMergedEnd(in *incident.Incident, f incident.Merged, t notifiedIntegration) error {
	to := e.routes.Find(t.receiver, t.integration, t.idx)
	byRoute := f.Whole && t.person == ""
	if to == nil || !to.SendResolved() || byRoute && e.engine.Fires(f.Incident) { // alerts that are left page by their own key
		return nil
	}
	var body outbox.Body
	if err := json.Unmarshal([]byte(t.payload), &body); err != nil {
		return fmt.Errorf("decode alerts of incident %s: %w", f.ID, err)
	}
	key := in.GroupKey
	if byRoute {
		key, body.Alerts = f.GroupKey, endedAlerts(body.Firing(), e.now)
	} else {
		body.Alerts = alertsEnded(in, e.now)
	}
	l, err := NewMessage(in.ID, t.receiver, to, key, notify.ReasonAllAlertsResolved, body, e.now)
	if err != nil {
		return err
	}
	return e.throttle.send(l, t.person, aboutEnd)
}

// alertsEnded are an incident's alerts as Alertmanager sees them when they are over.
func alertsEnded(in *incident.Incident, now int64) (out []*amalert.Alert) {
	for _, a := range in.Alerts {
		out = append(out, &amalert.Alert{Alert: model.Alert{
			Labels: alert.LabelSet(a.Labels), Annotations: alert.LabelSet(a.Annotations), StartsAt: time.UnixMilli(a.StartsAt),
			EndsAt: time.UnixMilli(cmp.Or(a.EndsAt, now)),
		}})
	}
	return out
}

// Update writes into open incidents the present state of a domain's alert: the boards that joined it, or those that are left. It
// pages nobody.
func (g *Engine) Update(ts []alert.Transition) error {
	if len(ts) == 0 {
		return nil
	}
	return g.do(func(e *transaction) error {
		open, err := incident.Find(e.ctx, e.c, `WHERE resolved_at = 0`)
		if err != nil {
			return err
		}
		for _, in := range open {
			if !in.Update(ts) {
				continue
			}
			in.ChangedAt = time.Now().UnixMilli()
			in.Describe()
			if err := incident.Save(e.ctx, e.c, in); err != nil {
				return err
			}
			e.Changed[in.ID] = true
		}
		return nil
	})
}
