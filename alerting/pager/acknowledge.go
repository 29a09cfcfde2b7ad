package pager

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/outbox"
)

// ErrResolved is returned for a change of an incident that is over.
var ErrResolved = errors.New("the incident is resolved already")

// AckNote is the annotation of the message that tells others who has acknowledged.
const AckNote = "acknowledged"

// maxSnooze bounds a snooze: a longer one is a silence.
const maxSnooze = 7 * 24 * time.Hour

// Acknowledge records that who takes the incident on. Pages stop, those that wait for delivery included, and nothing
// escalates any more; new alerts and the resolve are still told. Acknowledging again replaces name, time and comment, unless the
// same person does so without a comment. It survives a restart. The error is ErrNone where there is none, ErrResolved where it is over.
func (p *Pager) Acknowledge(ctx context.Context, id, who, comment string) error {
	return p.acknowledge(ctx, id, incident.Ack{By: who, Comment: comment})
}

// Snooze is an acknowledgement for a time: alerts that still fire then are escalated from the first step. It is at most 7 days. Name,
// time and comment of an acknowledgement before it stay.
func (p *Pager) Snooze(ctx context.Context, id, who, comment string, d time.Duration) error {
	if d < time.Second || d > maxSnooze {
		return fmt.Errorf("snooze incident: %s is not between 1s and %s", d, maxSnooze)
	}
	return p.acknowledge(ctx, id, incident.Ack{By: who, Comment: comment, Until: d.Milliseconds()})
}

// acknowledge takes an acknowledgement whose Until is still a duration.
func (p *Pager) acknowledge(_ context.Context, id string, ack incident.Ack) error {
	if ack.By == "" {
		return errors.New("acknowledge incident: who is missing")
	}
	length := ack.Until
	var e *transaction
	err := p.commits.Do(func(c *sql.Conn) error {
		e = p.transaction(c)
		ack.At, ack.Until = e.now, 0
		if length > 0 {
			ack.Until = e.now + length
		}
		return e.acknowledge(id, ack)
	})
	if err != nil {
		return err
	}
	p.after(e)
	p.log.Info("incident acknowledged", "incident", id, "by", ack.By, "until", ack.Until)
	return nil
}

// acknowledge stops all that rings, and tells the others.
func (e *transaction) acknowledge(id string, ack incident.Ack) error {
	in, err := e.open(id)
	if err != nil {
		return err
	}
	in.Ack, in.ChangedAt = in.Ack.FollowedBy(ack), e.now
	if err := incident.Save(e.ctx, e.c, in); err != nil {
		return err
	}
	err = e.exec("write snooze", `INSERT INTO incident_detail (incident, snoozed_until) VALUES (?,?)
		ON CONFLICT (incident) DO UPDATE SET snoozed_until = excluded.snoozed_until`, id, ack.Until)
	if err != nil {
		return err
	}
	kind, state, text := "acknowledged", escalationAcknowledged, ack.Comment
	if ack.Until != 0 {
		kind, state = "snoozed", escalationSnoozed
		text = fmt.Sprintf("for %s", model.Duration(time.Duration(ack.Until-ack.At)*time.Millisecond))
		if ack.Comment != "" {
			text += ": " + ack.Comment
		}
	}
	if err := e.event(id, kind, ack.By, "%s", text); err != nil {
		return err
	}
	others, err := e.people(id) // before their waiting messages are stopped
	if err != nil {
		return err
	}
	if err := e.quiet(id, "acknowledged before it was delivered"); err != nil {
		return err
	}
	return e.acknowledged(in, ack, state, others)
}

// open reads an incident that is not over.
func (e *transaction) open(id string) (*incident.Incident, error) {
	in, err := incident.Get(e.ctx, e.c, id)
	if err != nil {
		return nil, err
	}
	if in.ResolvedAt != 0 {
		return nil, e.overBecause(&in)
	}
	return &in, nil
}

// acknowledged brings the escalation to rest.
func (e *transaction) acknowledged(in *incident.Incident, ack incident.Ack, state string, others []string) error {
	esc, err := e.load(in.ID)
	if err != nil {
		return err
	}
	if esc == nil && ack.Until == 0 {
		return nil
	}
	if esc == nil { // no policy: the end of a snooze lets the receiver's own repeats through again
		esc = &escalation{incident: in.ID, receiver: in.Receiver, payload: []byte(`{}`)}
	}
	esc.state = state
	if err := e.save(esc); err != nil {
		return err
	}
	if ack.Until != 0 {
		if err := e.add(&escalationStep{incident: in.ID, kind: stepOfSnooze, run: esc.run, due: ack.Until}); err != nil {
			return err
		}
	}
	for _, name := range others {
		if name == ack.By {
			continue
		}
		if err := e.notice(in, esc, ack, name); err != nil {
			return err
		}
	}
	return nil
}

// notice tells somebody who was paged that another has it, where that person wants to hear it.
func (e *transaction) notice(in *incident.Incident, esc *escalation, ack incident.Ack, name string) error {
	p := e.oncall.Person(name)
	if p == nil || p.AckNotice == "" {
		return nil
	}
	to := e.routing.set.Only(p.AckNotice)
	if to == nil {
		return nil
	}
	var body outbox.Body
	if err := json.Unmarshal(esc.payload, &body); err != nil {
		return fmt.Errorf("decode alerts of incident %s: %w", in.ID, err)
	}
	by := "acknowledged by " + ack.By
	if ack.Comment != "" {
		by += ": " + ack.Comment
	}
	body.Alerts = withNote(body.Firing(), func(notes model.LabelSet) {
		notes[AckNote] = model.LabelValue(by)
	})
	for _, a := range body.Alerts {
		about := incidentAlert(a)
		a.Annotations["summary"] = model.LabelValue("Acknowledged by " + ack.By + ": " + alert.Text(about.Labels, about.Annotations))
	}
	l, err := newMessage(in.ID, p.AckNotice, to, in.GroupKey, notify.ReasonUnknown, body, e.now)
	if err != nil {
		return err
	}
	return e.send(l, name, aboutAck)
}

// quiet stops the coming steps and the waiting messages of an incident, but never a resolve.
func (e *transaction) quiet(id, why string) error {
	if err := e.stopSteps(id); err != nil {
		return err
	}
	rows, err := e.c.QueryContext(e.ctx, `UPDATE page SET state = 'stopped', answer = ? WHERE incident = ? AND state IN ('waiting', 'bundled')
		AND reason IN (?, ?, ?) RETURNING id`, why, id,
		int(notify.ReasonFirstNotification), int(notify.ReasonNewAlertsInGroup), int(notify.ReasonRepeatIntervalElapsed))
	if err != nil {
		return fmt.Errorf("stop pages of incident %s: %w", id, err)
	}
	if err := e.collectStopped(rows); err != nil {
		return err
	}
	return e.stopEmptyBundles()
}

func (e *transaction) collectStopped(rows *sql.Rows) error {
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return fmt.Errorf("stop pages: %w", err)
		}
		e.stopped[id] = true
	}
	return rows.Err()
}

// CloseIncident writes down the cause that somebody found in the end. An incident whose alerts still fire is over with it: nothing
// rings any more, its receivers hear of the end, and the alerts page again only when they begin anew. The error is
// ErrNone where there is none.
func (p *Pager) CloseIncident(_ context.Context, id, who, comment string) error {
	if who == "" {
		return errors.New("close incident: who is missing")
	}
	var e *transaction
	err := p.commits.Do(func(c *sql.Conn) error {
		e = p.transaction(c)
		return e.close(id, who, comment)
	})
	if err != nil {
		return err
	}
	p.after(e)
	p.log.Info("incident closed", "incident", id, "by", who)
	return nil
}

func (e *transaction) close(id, who, comment string) error {
	in, err := incident.Get(e.ctx, e.c, id)
	if err != nil {
		return err
	}
	if err := in.LoadDetails(e.ctx, e.c); err != nil {
		return err
	}
	byHand := in.ResolvedAt == 0
	last := incident.Closing{By: who, At: e.now, Comment: comment}
	if comment == "" && in.Closing != nil && in.Closing.Comment != "" {
		last = *in.Closing // closing again without a comment takes none away
	}
	err = e.exec("write closing comment", `INSERT INTO incident_detail (incident, closed_by, closed_at, closing, by_hand) VALUES (?,?,?,?,?)
		ON CONFLICT (incident) DO UPDATE SET closed_by = excluded.closed_by, closed_at = excluded.closed_at, closing = excluded.closing,
		by_hand = max(by_hand, excluded.by_hand)`, id, last.By, last.At, last.Comment, byHand)
	if err != nil {
		return err
	}
	if err := e.event(id, "closed", who, "%s", comment); err != nil || !byHand {
		return err
	}
	in.ResolvedAt, in.ChangedAt = e.now, e.now
	if err := incident.Save(e.ctx, e.c, &in); err != nil {
		return err
	}
	return e.endNotified(&in, "closed before it was delivered")
}

// endNotified notifies every paged receiver of the end, as the resolve of the alerts would. Waiting messages are cancelled.
func (e *transaction) endNotified(in *incident.Incident, why string) error {
	told, err := e.notifiedIntegrations(in.ID, e.now) // with messages in flight, before they are cancelled
	if err != nil {
		return err
	}
	if err := e.quiet(in.ID, why); err != nil {
		return err
	}
	if esc, err := e.load(in.ID); err != nil {
		return err
	} else if esc != nil {
		esc.state = escalationOver
		if err := e.save(esc); err != nil {
			return err
		}
	}
	for _, t := range told {
		to := e.routing.set.Find(t.receiver, t.integration, t.idx)
		if to == nil || !to.SendResolved() {
			continue
		}
		var body outbox.Body
		if err := json.Unmarshal([]byte(t.payload), &body); err != nil {
			return fmt.Errorf("decode alerts of incident %s: %w", in.ID, err)
		}
		body.Alerts = endedAlerts(body.Firing(), e.now)
		l, err := newMessage(in.ID, t.receiver, to, in.GroupKey, notify.ReasonAllAlertsResolved, body, e.now)
		if err != nil {
			return err
		}
		if err := e.send(l, t.person, aboutEnd); err != nil {
			return err
		}
	}
	return e.notifyMerged(in)
}

func endedAlerts(firing []*amalert.Alert, now int64) []*amalert.Alert {
	out := withNote(firing, func(model.LabelSet) {})
	for _, a := range out {
		a.EndsAt = time.UnixMilli(now)
	}
	return out
}

// notifiedIntegration is an integration that got pages of an incident, and its last one.
type notifiedIntegration struct {
	person, about, receiver, integration string
	idx                                  int
	payload                              string
}

// notifiedIntegrations lists them, up to a time.
func (e *transaction) notifiedIntegrations(incident string, until int64) (out []notifiedIntegration, err error) {
	rows, err := e.c.QueryContext(e.ctx, `SELECT coalesce(t.person, ''), coalesce(t.kind, ''), p.receiver, p.integration, p.idx, p.payload FROM page p LEFT JOIN page_to t ON t.page = p.id
		WHERE p.seq IN (SELECT max(seq) FROM page WHERE incident = ? AND created_at <= ? AND reason <> ?
		AND (state IN ('delivered', 'waiting') OR state = 'stopped' AND id IN (SELECT page FROM page_to WHERE doubtful = 1)) GROUP BY receiver, integration, idx) ORDER BY p.seq`,
		incident, until, int(notify.ReasonUnknown))
	if err != nil {
		return nil, fmt.Errorf("read whom incident %s was told: %w", incident, err)
	}
	defer rows.Close()
	for rows.Next() {
		var t notifiedIntegration
		if err := rows.Scan(&t.person, &t.about, &t.receiver, &t.integration, &t.idx, &t.payload); err != nil {
			return nil, fmt.Errorf("read whom incident %s was told: %w", incident, err)
		}
		out = append(out, t)
	}
	return out, rows.Err()
}

// tried follows up on a try to deliver: the pages that a message carried share its fate, and a channel that does not work brings
// the next step forward.
func (e *transaction) tried(l *outbox.Message, state, answer string, leftAt int64) error {
	incidents := map[string]bool{l.Incident: true}
	if l.Incident == "" {
		if err := e.settleBundle(l, state, answer, leftAt); err != nil {
			return err
		}
		incidents = e.changed
	}
	if state != "failed" && !(state == "waiting" && l.Attempts == triesBeforeNext) {
		return nil
	}
	var who string
	row := e.c.QueryRowContext(e.ctx, `SELECT person FROM page_to WHERE page = ? AND kind = 'page'`, l.ID)
	if err := row.Scan(&who); errors.Is(err, sql.ErrNoRows) {
		return nil
	} else if err != nil {
		return fmt.Errorf("read whom page %s is for: %w", l.ID, err)
	}
	for id := range incidents {
		if err := e.event(id, "channel", who, "%s does not work after %d tries: the next step comes now", l.Receiver, l.Attempts); err != nil {
			return err
		}
		if err := e.expedite(id); err != nil {
			return err
		}
	}
	return nil
}

// triesBeforeNext is how many tries of one channel fail before the next step comes at once: with a provider that hangs
// that is 16 s.
const triesBeforeNext = 3
