package escalation

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"

	"bramble/alerting/fault"
	"bramble/alerting/incident"
	"bramble/alerting/oncall"
	"bramble/alerting/outbox"
	"bramble/storage/statedb"
)

// run takes the due steps of an incident, "" for all, the earliest first, with the steps that follow at once.
func (e *transaction) run(incident string) error {
	for range stepsAtOnce {
		s, err := e.due(incident)
		if err != nil || s == nil {
			return err
		}
		if err := e.doAlone(s); err != nil {
			return err
		}
	}
	return nil
}

// doAlone does one step so that one that cannot be done holds up no other: it is taken back, noted, and the next one of
// its incident comes now.
func (e *transaction) doAlone(s *escalationStep) error {
	if err := e.exec("begin step", `SAVEPOINT step`); err != nil {
		return err
	}
	messages := len(e.Messages)
	err := fault.Err
	e.engine.Faults.Run("take a step of incident "+s.incident, func() { err = e.do(s) })
	if err == nil {
		return e.exec("end step", `RELEASE step`)
	}
	e.Messages = e.Messages[:messages]
	e.engine.Log.Error("a step of an escalation cannot be done: the next one comes now", "incident", s.incident, "kind", s.kind, "err", err)
	if err := e.exec("take back step", `ROLLBACK TO step`); err != nil {
		return err
	}
	return errors.Join(e.exec("end step", `RELEASE step`), e.finish(s, "failed"), e.event(s.incident, "channel", s.person, "a step cannot be done: %v", err),
		e.expedite(s.incident))
}

// due is the earliest step whose time has come, nil where there is none.
func (e *transaction) due(incident string) (*escalationStep, error) {
	var (
		s      escalationStep
		reason int
	)
	which, args := "", []any{e.now}
	if incident != "" {
		which, args = "AND incident = ?", append(args, incident)
	}
	row := e.c.QueryRowContext(e.ctx, `SELECT seq, incident, kind, run, round, step, person, receiver, reason, delay, due_at, held
		FROM escalation_step WHERE state = 'pending' AND due_at <= ? `+which+` ORDER BY due_at, seq LIMIT 1`, args...)
	err := row.Scan(&s.seq, &s.incident, &s.kind, &s.run, &s.round, &s.step, &s.person, &s.receiver, &reason, &s.delay, &s.due, &s.held)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read due step: %w", err)
	}
	s.reason = notify.NotifyReason(reason)
	return &s, nil
}

func (e *transaction) do(s *escalationStep) error {
	if s.kind == stepOfBundle {
		return e.throttle.flush(s)
	}
	esc, err := e.load(s.incident)
	if err != nil {
		return err
	}
	if esc == nil || esc.state == Over {
		return e.finish(s, "stopped")
	}
	why := e.muted[s.incident]
	if s.kind == stepOfSnooze && why != heldOver {
		return errors.Join(e.finish(s, "done"), e.wake(esc))
	}
	if why != "" {
		return e.hold(s, why)
	}
	if s.kind == stepOfChannel {
		return errors.Join(e.finish(s, "done"), e.page(s, esc))
	}
	return errors.Join(e.finish(s, "done"), e.step(s, esc))
}

// hold puts a step off.
func (e *transaction) hold(s *escalationStep, why string) error {
	if !s.held {
		if err := e.event(s.incident, "held", "", "%s", why); err != nil {
			return err
		}
	}
	off := holdStep
	if why == heldOver {
		off = overStep
	}
	return e.exec("hold step", `UPDATE escalation_step SET due_at = ?, delay = ?, held = 1 WHERE seq = ?`,
		e.now+off.Milliseconds(), off.Milliseconds(), s.seq)
}

// catchUp moves the steps of incidents that are far behind, each incident's with the rhythm that they have: the pages that a
// collector that was away has missed must not leave in one second.
func (e *transaction) catchUp() error {
	behind := map[string]int64{}
	err := statedb.Each(e.ctx, e.c, func(row *sql.Rows) error {
		var (
			id string
			at int64
		)
		err := row.Scan(&id, &at)
		behind[id] = e.now - at
		return err
	}, `SELECT incident, min(due_at) FROM escalation_step WHERE state = 'pending' AND kind IN ('step', 'channel')
		GROUP BY incident HAVING min(due_at) < ?`, e.now-lateStep.Milliseconds())
	if err != nil {
		return fmt.Errorf("read late steps: %w", err)
	}
	for id, by := range behind {
		err := e.exec("move late steps", `UPDATE escalation_step SET due_at = due_at + ? WHERE incident = ? AND state = 'pending' AND kind IN ('step', 'channel')`, by, id)
		if err != nil {
			return err
		}
	}
	return nil
}

// step pages those whose turn it is and writes down the next steps.
func (e *transaction) step(s *escalationStep, esc *escalation) error {
	policy := e.oncall.PolicyOf(esc.receiver)
	if policy == nil {
		return e.exhaust(s, esc, nil, fmt.Sprintf("receiver %s stands for no policy of oncall.yml any more", esc.receiver))
	}
	if s.step >= len(policy.Steps) {
		return e.endRound(s, esc, policy)
	}
	step, base := policy.Steps[s.step], s.due
	people, gaps := e.oncall.Who(step, time.UnixMilli(e.now))
	for _, rota := range gaps {
		e.Gaps++
		if err := e.event(s.incident, "gap", "", "nobody is on call in rota %s", rota); err != nil {
			return err
		}
	}
	for _, name := range people {
		if err := e.turn(s, name, base); err != nil {
			return err
		}
	}
	wait := step.Wait
	text := fmt.Sprintf("step %d of %d pages %s; without an acknowledgement it goes on in %s", s.step+1, len(policy.Steps), andOthers(people), model.Duration(wait))
	if len(people) == 0 {
		wait, text = 0, fmt.Sprintf("step %d of %d has nobody to page: it goes on at once", s.step+1, len(policy.Steps))
	}
	if err := e.event(s.incident, "step", "", "%s", text); err != nil {
		return err
	}
	esc.paged += len(people)
	if err := e.save(esc); err != nil {
		return err
	}
	return e.add(&escalationStep{
		incident: s.incident, kind: stepOfPolicy, run: s.run, round: s.round, step: s.step + 1, due: base + wait.Milliseconds(),
	})
}

// turn writes down when each channel of a person is to be used.
func (e *transaction) turn(s *escalationStep, name string, base int64) error {
	for _, ch := range e.oncall.Person(name).Channels {
		err := e.add(&escalationStep{
			incident: s.incident, kind: stepOfChannel, run: s.run, round: s.round, step: s.step, person: name, receiver: ch.Receiver,
			reason: notify.ReasonFirstNotification, due: base + ch.After.Milliseconds(),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// endRound repeats from the start, or gives up. A round that had nobody to page is not repeated.
func (e *transaction) endRound(s *escalationStep, esc *escalation, policy *oncall.Policy) error {
	if s.round >= policy.Repeat || esc.paged == 0 {
		why := fmt.Sprintf("nobody acknowledged after %d of %d rounds", s.round+1, policy.Repeat+1)
		if esc.paged == 0 {
			why = "no step had anybody to page"
		}
		return e.exhaust(s, esc, policy, why)
	}
	if err := e.event(s.incident, "repeat", "", "nobody acknowledged: from the start, round %d of %d", s.round+2, policy.Repeat+1); err != nil {
		return err
	}
	esc.paged = 0
	if err := e.save(esc); err != nil {
		return err
	}
	return e.add(&escalationStep{incident: s.incident, kind: stepOfPolicy, run: s.run, round: s.round + 1, due: s.due})
}

// exhaust ends an escalation that found nobody, at the policy's fallback.
func (e *transaction) exhaust(s *escalationStep, esc *escalation, policy *oncall.Policy, why string) error {
	e.Exhausted++
	esc.state = Exhausted
	if err := e.save(esc); err != nil {
		return err
	}
	if policy == nil || policy.Fallback == "" {
		return e.event(s.incident, "exhausted", "", "%s, and there is no fallback", why)
	}
	if err := e.event(s.incident, "exhausted", "", "%s: it goes to the fallback, %s", why, policy.Fallback); err != nil {
		return err
	}
	if e.oncall.Person(policy.Fallback) != nil {
		return e.turn(s, policy.Fallback, s.due)
	}
	return e.fallback(esc, policy.Fallback)
}

// fallback hands the incident to all integrations of a receiver.
func (e *transaction) fallback(esc *escalation, receiver string) error {
	for i := range e.routes.Of(receiver) {
		to := &e.routes.Of(receiver)[i]
		l, err := e.message(esc.incident, receiver, to, e.groupKey(esc.incident), notify.ReasonFirstNotification, esc.payload)
		if err != nil {
			return err
		}
		if err := e.throttle.post(l, "", aboutFiring); err != nil {
			return err
		}
	}
	return nil
}

// page writes a person's page for one channel.
func (e *transaction) page(s *escalationStep, esc *escalation) error {
	to := e.routes.Only(s.receiver)
	if to == nil {
		if err := e.event(s.incident, "channel", s.person, "receiver %s is no longer in alertmanager.yml", s.receiver); err != nil {
			return err
		}
		return e.expedite(s.incident)
	}
	var waits int
	row := e.c.QueryRowContext(e.ctx, `SELECT count(*) FROM page p JOIN page_to t ON t.page = p.id
		WHERE p.incident = ? AND p.receiver = ? AND t.person = ? AND t.kind = 'page' AND p.state IN ('waiting', 'bundled')`, s.incident, s.receiver, s.person)
	if err := row.Scan(&waits); err != nil {
		return fmt.Errorf("read waiting pages of incident %s: %w", s.incident, err)
	}
	if waits > 0 && s.reason == notify.ReasonFirstNotification {
		return e.event(s.incident, "channel", s.person, "%s: the page before still waits for its provider", s.receiver)
	}
	l, err := e.message(s.incident, s.receiver, to, e.groupKey(s.incident), s.reason, esc.payload)
	if err != nil {
		return err
	}
	if s.round == 0 && s.step == 0 && s.delay == 0 {
		l.ReadingAt = esc.readingAt
	}
	return e.throttle.send(l, s.person, aboutFiring)
}

// expedite brings the next step of an incident forward to now: a channel does not work.
func (e *transaction) expedite(incident string) error {
	return e.exec("bring forward the next step of incident "+incident, `UPDATE escalation_step SET due_at = ? WHERE seq =
		(SELECT seq FROM escalation_step WHERE incident = ? AND state = 'pending' AND kind IN ('step', 'channel') ORDER BY due_at, seq LIMIT 1)
		AND due_at > ?`, e.now, incident, e.now)
}

// wake ends a snooze: the escalation begins again.
func (e *transaction) wake(esc *escalation) error {
	in, err := incident.Get(e.ctx, e.c, esc.incident)
	if err != nil {
		return err
	}
	by := ""
	if in.Ack != nil {
		by = in.Ack.By
	}
	in.Ack, in.ChangedAt = nil, e.now
	if err := incident.Save(e.ctx, e.c, &in); err != nil {
		return err
	}
	if err := e.exec("end snooze", `UPDATE incident_detail SET snoozed_until = 0 WHERE incident = ?`, esc.incident); err != nil {
		return err
	}
	if err := e.event(esc.incident, "awake", by, "the snooze is over and it still fires: from the start"); err != nil {
		return err
	}
	if e.oncall.PolicyOf(esc.receiver) == nil {
		esc.state = Over // its receiver's own repeats are let through again
		return e.save(esc)
	}
	return e.start(esc)
}

// GroupKey is the key under which Alertmanager's receivers know an incident.
func (e *transaction) groupKey(incident string) (key string) {
	// Without one the page leaves all the same, as a thread of its own.
	if err := e.c.QueryRowContext(e.ctx, `SELECT group_key FROM incident WHERE id = ?`, incident).Scan(&key); err != nil {
		return incident
	}
	return key
}

// message is a message about an incident's alerts; only a resolve tells of those that ended.
func (e *transaction) message(incident, receiver string, to *notify.Integration, groupKey string, reason notify.NotifyReason, text []byte) (*outbox.Message, error) {
	var body outbox.Body
	if err := json.Unmarshal(text, &body); err != nil {
		return nil, fmt.Errorf("decode alerts of incident %s: %w", incident, err)
	}
	if reason != notify.ReasonAllAlertsResolved {
		body.Alerts = body.Firing()
	}
	return NewMessage(incident, receiver, to, groupKey, reason, body, e.now)
}

// NewMessage is a message that is to leave now.
func NewMessage(incident, receiver string, to *notify.Integration, groupKey string, reason notify.NotifyReason, body outbox.Body, now int64) (*outbox.Message, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode page of incident %s: %w", incident, err)
	}
	return &outbox.Message{
		Incident: incident, Receiver: receiver, Integration: to.Name(), Index: to.Index(), GroupKey: groupKey, Reason: reason,
		Payload: text, CreatedAt: now, NextAt: now,
	}, nil
}

// withNote returns copies of alerts with further annotations.
func withNote(alerts []*amalert.Alert, note func(model.LabelSet)) []*amalert.Alert {
	out := make([]*amalert.Alert, len(alerts))
	for i, a := range alerts {
		with := *a
		with.Annotations = a.Annotations.Clone()
		if with.Annotations == nil {
			with.Annotations = model.LabelSet{}
		}
		note(with.Annotations)
		out[i] = &with
	}
	return out
}
