package escalation

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
	"bramble/storage/statedb"
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
func (g *Engine) Acknowledge(ctx context.Context, id, who, comment string) error {
	return g.acknowledge(ctx, id, incident.Ack{By: who, Comment: comment})
}

// Snooze is an acknowledgement for a time: alerts that still fire then are escalated from the first step. It is at most 7 days. Name,
// time and comment of an acknowledgement before it stay.
func (g *Engine) Snooze(ctx context.Context, id, who, comment string, d time.Duration) error {
	if d < time.Second || d > maxSnooze {
		return fmt.Errorf("snooze incident: %s is not between 1s and %s", d, maxSnooze)
	}
	return g.acknowledge(ctx, id, incident.Ack{By: who, Comment: comment, Until: d.Milliseconds()})
}

// acknowledge takes an acknowledgement whose Until is still a duration.
func (g *Engine) acknowledge(_ context.Context, id string, ack incident.Ack) error {
	if ack.By == "" {
		return errors.New("acknowledge incident: who is missing")
	}
	length := ack.Until
	err := g.do(func(e *transaction) error {
		ack.At, ack.Until = e.now, 0
		if length > 0 {
			ack.Until = e.now + length
		}
		return e.acknowledge(id, ack)
	})
	if err != nil {
		return err
	}
	g.Log.Info("incident acknowledged", "incident", id, "by", ack.By, "until", ack.Until)
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
	kind, state, text := "acknowledged", Acknowledged, ack.Comment
	if ack.Until != 0 {
		kind, state = "snoozed", Snoozed
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
	to := e.routes.Only(p.AckNotice)
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
		about := AlertOf(a)
		a.Annotations["summary"] = model.LabelValue("Acknowledged by " + ack.By + ": " + alert.Text(about.Labels, about.Annotations))
	}
	l, err := NewMessage(in.ID, p.AckNotice, to, in.GroupKey, notify.ReasonUnknown, body, e.now)
	if err != nil {
		return err
	}
	return e.throttle.send(l, name, aboutAck)
}

// quiet stops the coming steps and the waiting messages of an incident, but never a resolve.
func (e *transaction) quiet(id, why string) error {
	if err := e.stopSteps(id); err != nil {
		return err
	}
	err := e.throttle.stop("stop pages of incident "+id, `UPDATE page SET state = 'stopped', answer = ? WHERE incident = ? AND state IN ('waiting', 'bundled')
		AND reason IN (?, ?, ?) RETURNING id`, why, id,
		int(notify.ReasonFirstNotification), int(notify.ReasonNewAlertsInGroup), int(notify.ReasonRepeatIntervalElapsed))
	if err != nil {
		return err
	}
	return e.throttle.stopEmptyBundles()
}

// Close writes down the cause that somebody found in the end. An incident whose alerts still fire is over with it: nothing
// rings any more, its receivers hear of the end, and the alerts page again only when they begin anew. The error is
// ErrNone where there is none.
func (g *Engine) Close(_ context.Context, id, who, comment string) error {
	if who == "" {
		return errors.New("close incident: who is missing")
	}
	err := g.do(func(e *transaction) error { return e.close(id, who, comment) })
	if err != nil {
		return err
	}
	g.Log.Info("incident closed", "incident", id, "by", who)
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
		esc.state = Over
		if err := e.save(esc); err != nil {
			return err
		}
	}
	for _, t := range told {
		to := e.routes.Find(t.receiver, t.integration, t.idx)
		if to == nil || !to.SendResolved() {
			continue
		}
		var body outbox.Body
		if err := json.Unmarshal([]byte(t.payload), &body); err != nil {
			return fmt.Errorf("decode alerts of incident %s: %w", in.ID, err)
		}
		body.Alerts = endedAlerts(body.Firing(), e.now)
		l, err := NewMessage(in.ID, t.receiver, to, in.GroupKey, notify.ReasonAllAlertsResolved, body, e.now)
		if err != nil {
			return err
		}
		if err := e.throttle.send(l, t.person, aboutEnd); err != nil {
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
func (e *transaction) notifiedIntegrations(incident string, until int64) ([]notifiedIntegration, error) {
	out, err := statedb.All(e.ctx, e.c, func(row *sql.Rows) (t notifiedIntegration, err error) {
		err = row.Scan(&t.person, &t.about, &t.receiver, &t.integration, &t.idx, &t.payload)
		return t, err
	}, `SELECT coalesce(t.person, ''), coalesce(t.kind, ''), p.receiver, p.integration, p.idx, p.payload FROM page p LEFT JOIN page_to t ON t.page = p.id
		WHERE p.seq IN (SELECT max(seq) FROM page WHERE incident = ? AND created_at <= ? AND reason <> ?
		AND (state IN ('delivered', 'waiting') OR state = 'stopped' AND id IN (SELECT page FROM page_to WHERE doubtful = 1)) GROUP BY receiver, integration, idx) ORDER BY p.seq`,
		incident, until, int(notify.ReasonUnknown))
	if err != nil {
		return nil, fmt.Errorf("read whom incident %s was told: %w", incident, err)
	}
	return out, nil
}

// RecordTry writes the outcome of a try. A page that left must be on record, so the write is repeated until it succeeds or the
// page would be sent again anyway.
func (g *Engine) RecordTry(l *outbox.Message, state, answer string, now time.Time) {
	var leftAt int64
	if state == "delivered" {
		leftAt = now.UnixMilli()
	}
	for range 3 {
		err := g.do(func(e *transaction) error {
			answer := answer[:min(len(answer), outbox.MaxAnswer)]
			err := e.exec("write page", `UPDATE page SET state = ?, attempts = ?, next_at = ?, answer = ?, left_at = ?
				WHERE id = ? AND NOT (state = 'stopped' AND ? = 'waiting')`,
				state, l.Attempts, l.NextAt, answer, leftAt, l.ID, state)
			if state == "delivered" && l.Incident != "" && l.ReadingAt != 0 && l.Way != nil {
				err = errors.Join(err, e.event(l.Incident, "timing", l.Receiver, "%s", l.Timing(leftAt)))
			}
			return errors.Join(err, e.tried(l, state, answer, leftAt))
		})
		if err == nil {
			return
		}
		g.Log.Error("record a page's delivery", "page", l.ID, "state", state, "err", err)
	}
}

// tried follows up on a try to deliver: the pages that a message carried share its fate, and a channel that does not work brings
// the next step forward.
func (e *transaction) tried(l *outbox.Message, state, answer string, leftAt int64) error {
	incidents := map[string]bool{l.Incident: true}
	if l.Incident == "" {
		if err := e.throttle.settleBundle(l, state, answer, leftAt); err != nil {
			return err
		}
		incidents = e.Changed
	}
	if state != "failed" && !(state == "waiting" && l.Attempts == TriesBeforeNext) {
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

// TriesBeforeNext is how many tries of one channel fail before the next step comes at once: with a provider that hangs
// that is 16 s.
const TriesBeforeNext = 3
