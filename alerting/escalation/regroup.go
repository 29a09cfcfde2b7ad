package escalation

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"

	"bramble/alerting/alert"
	"bramble/alerting/database"
	"bramble/alerting/incident"
	"bramble/alerting/outbox"
	"bramble/storage/statedb"
)

// keepClosed is how long an incident that was closed by hand counts where the routes have led its alerts elsewhere since.
const keepClosed = 30 * 24 * time.Hour

// ofGroup selects incidents by a group's key, given twice.
const ofGroup = `(group_key = ? OR id IN (SELECT incident FROM incident_moved WHERE group_key = ?))`

// leads reports whether the routes lead an alert to one of these groups.
func leads(r Routes, labels map[string]string, keys []string) bool {
	return slices.ContainsFunc(r.GroupKeys(labels), func(k string) bool { return slices.Contains(keys, k) })
}

// incidentOf returns the open incident that a notification is about, nil for none, and whether its group is new to it:
// the routes have changed, and an alert that was paged already comes from another group than before. Whatever open
// incident had such an alert goes on in this group; where there are several, they become one.
func (e grouping) incidentOf(n *Notification) (in *incident.Incident, moved bool, err error) {
	found, err := incident.Find(e.tx.ctx, e.tx.c, `WHERE resolved_at = 0 AND `+ofGroup, n.GroupKey, n.GroupKey)
	if err != nil {
		return nil, false, err
	}
	displaced, err := e.displaced(n, found)
	if err != nil {
		return nil, false, err
	}
	var all []*incident.Incident
	n.splitFrom = nil
	for _, other := range displaced {
		if other.Receiver == n.Receiver || n.hasAllOf(other) {
			all = append(all, other)
		} else if err := e.split(other, n); err != nil {
			return nil, false, err
		}
	}
	moved, all = len(all) > 0, append(found, all...)
	if len(all) == 0 {
		return nil, false, nil
	}
	// One that nobody has taken on comes first: an acknowledgement must not spread to alerts that its author has not seen.
	slices.SortStableFunc(all, func(a, b *incident.Incident) int { return cmp.Compare(ackedRank(a), ackedRank(b)) })
	in = all[0]
	for _, other := range all[1:] {
		if err := e.absorb(in, other); err != nil {
			return nil, false, err
		}
	}
	if !moved {
		return in, false, nil
	}
	return in, true, errors.Join(
		e.tx.exec("write group of incident "+in.ID, `INSERT OR REPLACE INTO incident_moved (group_key, incident) VALUES (?,?)`, n.GroupKey, in.ID),
		e.tx.event(in.ID, "moved", "", "the routes changed: it goes on with receiver %s", n.Receiver))
}

func ackedRank(in *incident.Incident) int {
	if in.Ack == nil {
		return 0
	}
	return 1
}

// displaced are the other open incidents with a firing alert of the notification that no route leads to them any more.
func (e grouping) displaced(n *Notification, found []*incident.Incident) (out []*incident.Incident, err error) {
	here := map[string]bool{}
	for _, in := range found {
		for labels := range firingIn(in) {
			here[labels] = true
		}
	}
	var paged []incident.Alert
	for i, a := range n.Alerts {
		if i < len(n.Paged) && n.Paged[i] && a.EndsAt == 0 && !here[alert.LabelText(a.Labels)] {
			paged = append(paged, a)
		}
	}
	if len(paged) == 0 {
		return nil, nil
	}
	open, err := incident.Find(e.tx.ctx, e.tx.c, `WHERE resolved_at = 0 AND NOT `+ofGroup+` ORDER BY opened_at`, n.GroupKey, n.GroupKey)
	if err != nil {
		return nil, err
	}
	for _, in := range open {
		had := firingIn(in)
		keys, err := groupsOf(e.tx.ctx, e.tx.c, in)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(paged, func(a incident.Alert) bool {
			return had[alert.LabelText(a.Labels)] && !leads(e.tx.routes, a.Labels, keys)
		}) {
			out = append(out, in)
		}
	}
	return out, nil
}

// closedElsewhere reports whether somebody closed, in a group to which the routes do not lead any more, an incident with
// all that fires here: it was dealt with, though the routes changed since.
func (e grouping) closedElsewhere(n *Notification) (bool, error) {
	closed, err := incident.Find(e.tx.ctx, e.tx.c, `WHERE resolved_at > 0 AND id IN (SELECT incident FROM incident_detail WHERE by_hand = 1 AND closed_at > ?)`,
		e.tx.now-keepClosed.Milliseconds())
	if err != nil {
		return false, err
	}
	for _, in := range closed {
		keys, err := groupsOf(e.tx.ctx, e.tx.c, in)
		if err != nil {
			return false, err
		}
		if in.Holds(n.Alerts) && !slices.ContainsFunc(n.Alerts, func(a incident.Alert) bool { return leads(e.tx.routes, a.Labels, keys) }) {
			return true, nil
		}
	}
	return false, nil
}

// groupsOf are the keys of an incident's groups, the first one first.
func groupsOf(ctx context.Context, db database.Querier, in *incident.Incident) ([]string, error) {
	keys, err := statedb.All(ctx, db, statedb.Column[string], `SELECT group_key FROM incident_moved WHERE incident = ?`, in.ID)
	if err != nil {
		return nil, fmt.Errorf("read groups of incident %s: %w", in.ID, err)
	}
	return append([]string{in.GroupKey}, keys...), nil
}

// hasAllOf reports whether all that fires of an incident is in the notification.
func (n *Notification) hasAllOf(in *incident.Incident) bool {
	fires := firingIn(in)
	for _, a := range n.Alerts {
		delete(fires, alert.LabelText(a.Labels))
	}
	return len(fires) == 0
}

// absorb makes the alerts of other those of in, and ends other without a word to its receivers: nothing is over.
func (e grouping) absorb(in, other *incident.Incident) error {
	in.Take(slices.DeleteFunc(slices.Clone(other.Alerts), func(a incident.Alert) bool { return a.EndsAt != 0 }), e.tx.now)
	return errors.Join(
		e.noteMerged(in, other, true),
		e.tx.event(in.ID, "moved", "", "the routes changed: it takes over the alerts of incident #%d", other.Number),
		e.tx.exec("move groups of incident "+other.ID, `UPDATE incident_moved SET incident = ? WHERE incident = ?`, in.ID, other.ID),
		e.tx.exec("move group of incident "+other.ID, `INSERT OR REPLACE INTO incident_moved (group_key, incident) VALUES (?,?)`, other.GroupKey, in.ID),
		e.tx.endQuietly(other, fmt.Sprintf("the routes changed: its alerts go on in incident #%d", in.Number)))
}

// endQuietly ends an incident and its escalation; its receivers hear nothing.
func (e *transaction) endQuietly(in *incident.Incident, why string) error {
	in.ResolvedAt, in.ChangedAt = e.now, e.now
	err := errors.Join(incident.Save(e.ctx, e.c, in), e.event(in.ID, "resolved", "", "%s", why), e.stopSteps(in.ID))
	if err != nil {
		return err
	}
	esc, err := e.load(in.ID)
	if err != nil || esc == nil {
		return err
	}
	esc.state = Over
	return e.save(esc)
}

// elsewhere returns the alerts of an incident of several groups that fire and are not in the notification of one.
func (e grouping) elsewhere(in *incident.Incident, n *Notification) (map[string]bool, error) {
	if in.ID == "" {
		return nil, nil
	}
	keys, err := groupsOf(e.tx.ctx, e.tx.c, in)
	if err != nil || len(keys) < 2 {
		return nil, err
	}
	fires := firingIn(in)
	for _, a := range n.Alerts {
		delete(fires, alert.LabelText(a.Labels))
	}
	return fires, nil
}

// notifyEarlierReceivers tells the end to receivers that paged it before the routes changed; n's own is told as ever, and people by
// their channels.
func (e grouping) notifyEarlierReceivers(in *incident.Incident, n *Notification) error {
	told, err := e.tx.notifiedIntegrations(in.ID, e.tx.now)
	if err != nil {
		return err
	}
	for _, t := range told {
		to := e.tx.routes.Find(t.receiver, t.integration, t.idx)
		if t.receiver == n.Receiver || t.about != "" || to == nil || !to.SendResolved() {
			continue
		}
		l, err := NewMessage(in.ID, t.receiver, to, in.GroupKey, notify.ReasonAllAlertsResolved, n.Body, e.tx.now)
		if err != nil {
			return err
		}
		if err := e.tx.throttle.send(l, "", aboutEnd); err != nil {
			return err
		}
	}
	return nil
}

// Led reports whether the routes lead an alert of an incident to one of its groups.
func (g *Engine) Led(ctx context.Context, in *incident.Incident) (bool, error) {
	r := g.Routes()
	keys, err := groupsOf(ctx, g.DB, in)
	return slices.ContainsFunc(in.Alerts, func(a incident.Alert) bool { return leads(r, a.Labels, keys) }), err
}

// splitIncident is an incident that goes on without alerts that the routes lead to another receiver, with the alerts that had fired in it.
type splitIncident struct {
	*incident.Incident
	had map[string]bool
}

// split takes the notification's alerts out of an incident of another receiver that has more. The others go on there, and
// its pages say no more of those that left.
func (e grouping) split(in *incident.Incident, n *Notification) error {
	if err := in.LoadDetails(e.tx.ctx, e.tx.c); err != nil {
		return err
	}
	n.splitFrom = append(n.splitFrom, splitIncident{in, firingIn(in)})
	now, left := e.tx.now, map[string]bool{}
	for _, a := range n.Alerts {
		for i := range in.Alerts {
			if b := &in.Alerts[i]; b.EndsAt == 0 && alert.LabelText(b.Labels) == alert.LabelText(a.Labels) {
				b.EndsAt = now
				left[alert.LabelText(a.Labels)] = true
			}
		}
	}
	in.ChangedAt = now
	gone := func(hash uint64) bool { return slices.Contains(n.Firing, hash) } // news, should the routes lead them back
	return errors.Join(incident.Save(e.tx.ctx, e.tx.c, in), e.withoutAlerts(in.ID, left), e.forgetGroups(in, gone),
		e.tx.event(in.ID, "moved", "", "the routes changed: %s of %d now with receiver %s", incident.CountText(len(left)), len(in.Alerts), n.Receiver))
}

// withoutAlerts takes alerts out of the text of an incident's further pages.
func (e grouping) withoutAlerts(incident string, left map[string]bool) error {
	esc, err := e.tx.load(incident)
	if err != nil || esc == nil {
		return err
	}
	var body outbox.Body
	if err := json.Unmarshal(esc.payload, &body); err != nil {
		return fmt.Errorf("decode alerts of incident %s: %w", incident, err)
	}
	body.Alerts = slices.DeleteFunc(body.Alerts, func(a *amalert.Alert) bool { return left[alert.LabelText(AlertOf(a).Labels)] })
	if esc.payload, err = json.Marshal(body); err != nil {
		return fmt.Errorf("encode alerts of incident %s: %w", incident, err)
	}
	return e.tx.save(esc)
}

// splitAck returns the acknowledgement that holds for alerts which came from other incidents to a new one, nil where
// one of them was not acknowledged there: somebody has them on hand already, wherever the routes lead now.
func (n *Notification) splitAck() *incident.Ack {
	known := map[string]bool{}
	for _, p := range n.splitFrom {
		if p.Ack == nil {
			return nil
		}
		maps.Copy(known, p.had)
	}
	if len(n.splitFrom) == 0 || n.newestReading(known) != 0 {
		return nil
	}
	ack := *n.splitFrom[0].Ack
	return &ack
}

// keepAck brings the escalation of a new incident to rest before it begins.
func (e grouping) keepAck(in *incident.Incident) error {
	state := Acknowledged
	if in.Ack.Until != 0 {
		state = Snoozed
		err := e.tx.exec("write snooze", `INSERT OR REPLACE INTO incident_detail (incident, snoozed_until) VALUES (?,?)`, in.ID, in.Ack.Until)
		if err != nil {
			return err
		}
	}
	return errors.Join(
		e.tx.event(in.ID, "acknowledged", in.Ack.By, "before the routes changed"),
		e.tx.save(&escalation{incident: in.ID, receiver: in.Receiver, state: state, payload: []byte(`{}`)}),
		e.tx.acknowledged(in, *in.Ack, state, nil))
}
