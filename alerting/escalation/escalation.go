package escalation

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/alertmanager/notify"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/outbox"
	"bramble/storage/statedb"
)

// States of an escalation.
const (
	Running      = "running"
	Acknowledged = "acknowledged"
	Snoozed      = "snoozed"
	Exhausted    = "exhausted"
	Over         = "over"
)

// Kinds of an escalation_step.
const (
	stepOfPolicy  = "step"
	stepOfChannel = "channel"
	stepOfSnooze  = "wake"
	stepOfBundle  = "bundle"
)

// Kinds of messages to a person.
const (
	aboutFiring = "page"
	aboutEnd    = "resolve"
	aboutAck    = "ack"
)

// lateStep is how late a step may be before all that follows of its incident is moved by as much.
const lateStep = 10 * time.Second

// escalation is how far an incident's escalation has come.
type escalation struct {
	incident, receiver, state string
	run                       int // how often it was started
	paged                     int // people paged in this round
	readingAt                 int64
	payload                   []byte
}

// escalationStep is one thing to do at its time.
type escalationStep struct {
	seq              int64
	incident, kind   string
	run, round, step int
	person, receiver string
	reason           notify.NotifyReason
	delay, due       int64
	held             bool
}

// notified takes a notification in, after its incident is written. Steps that are due at once are done in the same transaction.
func (e *transaction) notified(n *Notification, in *incident.Incident, ch change, elsewhere map[string]bool) error {
	esc, err := e.load(in.ID)
	if err != nil {
		return err
	}
	if esc == nil && (e.oncall.PolicyOf(n.Receiver) == nil || n.firingCount() == 0) {
		return nil
	}
	if esc == nil {
		esc = &escalation{incident: in.ID, state: Over, payload: []byte(`{}`)}
	}
	if ch.partly {
		n.Body.Alerts = nil // its people are still notified of alerts that fire elsewhere
	} else {
		esc.receiver = n.Receiver
	}
	if err := esc.take(n, elsewhere); err != nil {
		return err
	}
	fresh := n.newestReading(ch.before)
	if fresh != 0 {
		esc.readingAt = fresh
	}
	if err := e.follow(esc, n, in, fresh != 0, ch); err != nil {
		return err
	}
	return e.run(in.ID)
}

// take takes the alerts of a notification in; those that fire in other groups of the incident stay.
func (esc *escalation) take(n *Notification, elsewhere map[string]bool) error {
	body := n.Body
	if len(elsewhere) > 0 {
		var last outbox.Body
		if err := json.Unmarshal(esc.payload, &last); err != nil {
			return fmt.Errorf("decode alerts of incident %s: %w", esc.incident, err)
		}
		body.Alerts = slices.Clone(body.Alerts)
		for _, a := range last.Firing() {
			if elsewhere[alert.LabelText(AlertOf(a).Labels)] {
				body.Alerts = append(body.Alerts, a)
			}
		}
	}
	var err error
	if esc.payload, err = json.Marshal(body); err != nil {
		return fmt.Errorf("encode alerts of incident %s: %w", esc.incident, err)
	}
	return nil
}

// follow decides the effect of a notification on an escalation.
func (e *transaction) follow(esc *escalation, n *Notification, in *incident.Incident, fresh bool, ch change) error {
	switch {
	case ch.partly:
		return e.save(esc)
	case n.firingCount() == 0:
		return e.over(esc, in.GroupKey)
	case ch.refired && in.Ack != nil && in.Ack.Until != 0:
		esc.state = Snoozed // its end was stopped when the incident was over
		return errors.Join(e.news(esc, in), e.add(&escalationStep{incident: in.ID, kind: stepOfSnooze, run: esc.run, due: in.Ack.Until}))
	case e.oncall.PolicyOf(n.Receiver) == nil && ch.handed && in.Ack == nil:
		esc.state = Over // its new receiver repeats by itself
		return errors.Join(e.stopSteps(in.ID), e.save(esc))
	case e.oncall.PolicyOf(n.Receiver) == nil:
		return e.save(esc) // the receiver repeats by itself, or its running steps find that the policy is gone
	case n.Reason == notify.ReasonRepeatIntervalElapsed && (in.Ack != nil || esc.state != Exhausted):
		return e.save(esc) // the steps repeat
	case in.Ack != nil && ch.refired:
		esc.state = Acknowledged
		return e.news(esc, in)
	case ch.handed && in.Ack == nil && n.Reason == notify.ReasonFirstNotification && esc.state != Over:
		return errors.Join(e.stopSteps(in.ID), e.start(esc)) // other people
	case ch.moved && !fresh && esc.state != Over:
		return e.save(esc) // the steps go on
	case esc.state == Over || esc.state == Exhausted:
		return e.start(esc)
	case fresh:
		return e.news(esc, in)
	}
	return e.save(esc)
}

// start begins with the first step.
func (e *transaction) start(esc *escalation) error {
	esc.state, esc.paged = Running, 0
	esc.run++
	if err := e.save(esc); err != nil {
		return err
	}
	return e.add(&escalationStep{incident: esc.incident, kind: stepOfPolicy, run: esc.run, due: e.now})
}

// news notifies of further alerts the person who has the incident: the one who acknowledged it, or else who was paged, on their first
// channels. It escalates nothing by itself.
func (e *transaction) news(esc *escalation, in *incident.Incident) error {
	if err := e.save(esc); err != nil {
		return err
	}
	var people []string
	if in.Ack != nil && e.oncall.Person(in.Ack.By) != nil {
		people = []string{in.Ack.By}
	} else {
		var err error
		if people, err = e.people(in.ID); err != nil {
			return err
		}
	}
	for _, name := range people {
		p := e.oncall.Person(name)
		if p == nil {
			continue
		}
		err := e.add(&escalationStep{
			incident: in.ID, kind: stepOfChannel, run: esc.run, person: name, receiver: p.Channels[0].Receiver, due: e.now,
			reason: notify.ReasonNewAlertsInGroup,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// over ends it: nothing more is paged, and the people who were paged are notified of the end.
func (e *transaction) over(esc *escalation, groupKey string) error {
	esc.state = Over
	if err := e.save(esc); err != nil {
		return err
	}
	if err := e.stopSteps(esc.incident); err != nil {
		return err
	}
	return e.tellEnd(esc.incident, groupKey, esc.payload)
}

// tellEnd writes the resolve to each channel that got a page.
func (e *transaction) tellEnd(incident, groupKey string, payload []byte) error {
	channels, err := e.channels(incident)
	if err != nil {
		return err
	}
	for _, ch := range channels {
		for i := range e.routes.Of(ch.receiver) {
			to := &e.routes.Of(ch.receiver)[i]
			if !to.SendResolved() {
				continue
			}
			l, err := e.message(incident, ch.receiver, to, groupKey, notify.ReasonAllAlertsResolved, payload)
			if err != nil {
				return err
			}
			if err := e.throttle.send(l, ch.person, aboutEnd); err != nil {
				return err
			}
		}
	}
	return nil
}

// channel is a receiver through which a person was paged.
type channel struct{ person, receiver string }

// channels are those that got, or will get, a page of an incident.
func (e *transaction) channels(incident string) ([]channel, error) {
	out, err := statedb.All(e.ctx, e.c, func(row *sql.Rows) (c channel, err error) {
		err = row.Scan(&c.person, &c.receiver)
		return c, err
	},
		`SELECT t.person, p.receiver FROM page p JOIN page_to t ON t.page = p.id WHERE p.incident = ? AND t.kind = 'page'
		AND (p.state IN ('waiting', 'delivered', 'bundled') OR p.state = 'stopped' AND t.doubtful = 1) GROUP BY 1, 2 ORDER BY min(p.seq)`, incident)
	if err != nil {
		return nil, fmt.Errorf("read whom incident %s paged: %w", incident, err)
	}
	return out, nil
}

// people are those who were paged, each once.
func (e *transaction) people(incident string) (out []string, err error) {
	channels, err := e.channels(incident)
	seen := map[string]bool{"": true}
	for _, c := range channels {
		if !seen[c.person] {
			seen[c.person] = true
			out = append(out, c.person)
		}
	}
	return out, err
}

func (e *transaction) load(incident string) (*escalation, error) {
	esc := escalation{incident: incident}
	var payload string
	row := e.c.QueryRowContext(e.ctx, `SELECT receiver, state, run, paged, reading_at, payload FROM escalation WHERE incident = ?`, incident)
	err := row.Scan(&esc.receiver, &esc.state, &esc.run, &esc.paged, &esc.readingAt, &payload)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read escalation of incident %s: %w", incident, err)
	}
	esc.payload = []byte(payload)
	return &esc, nil
}

func (e *transaction) save(esc *escalation) error {
	e.Changed[esc.incident] = true
	return e.exec("write escalation of incident "+esc.incident, `INSERT OR REPLACE INTO escalation (incident, receiver, state, run, paged, reading_at, payload)
		VALUES (?,?,?,?,?,?,?)`, esc.incident, esc.receiver, esc.state, esc.run, esc.paged, esc.readingAt, string(esc.payload))
}

// stopSteps ends all that was still to come for an incident.
func (e *transaction) stopSteps(incident string) error {
	return e.exec("stop steps of incident "+incident, `UPDATE escalation_step SET state = 'stopped' WHERE incident = ? AND state = 'pending'`, incident)
}

// andOthers joins names for a sentence.
func andOthers(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}
