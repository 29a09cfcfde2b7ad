package alerting

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/database"
	"bramble/alerting/oncall"
)

// Event is one thing that happened to an incident. At is in Unix milliseconds.
type Event struct {
	At int64 `json:"at"`
	// Kind is opened, alerts, ended, refired, moved, step, channel, gap, held, repeat, exhausted, page, timing, acknowledged, snoozed,
	// awake, resolved or closed; next is what is still to come.
	Kind string `json:"kind"`
	// Who did it, or to whom it happened; empty for the collector itself.
	Who  string `json:"who,omitempty"`
	Text string `json:"text"`
	// Page is the page that the event is about, for those of the kind page.
	Page *Page `json:"page,omitempty"`
}

func recordEvent(ctx context.Context, db database.Querier, incident string, at int64, kind, who, text string) error {
	_, err := db.ExecContext(ctx, `INSERT INTO incident_event (incident, at, kind, who, text) VALUES (?,?,?,?,?)`, incident, at, kind, who, text)
	if err != nil {
		return fmt.Errorf("write what happened to incident %s: %w", incident, err)
	}
	return nil
}

// recordChange notes what a notification changed in an incident.
func recordChange(ctx context.Context, db database.Querier, n *notification, in *Incident, before map[string]bool, refired bool) error {
	began, ended := 0, 0
	for _, a := range n.alerts {
		if had := before[alert.LabelText(a.Labels)]; a.EndsAt == 0 && !had {
			began++
		} else if a.EndsAt != 0 && had {
			ended++
		}
	}
	kind, text := "alerts", fmt.Sprintf("%s more", alertCount(began))
	switch at := n.now.UnixMilli(); {
	case refired:
		kind, text = "refired", in.Title
	case in.OpenedAt == at:
		kind, text = "opened", in.Title
	case in.ResolvedAt == at:
		kind, text = "resolved", "all alerts ended"
	case began == 0 && ended > 0:
		kind, text = "ended", fmt.Sprintf("%s of %d ended", alertCount(ended), len(in.Alerts))
	case began == 0:
		return nil
	}
	return recordEvent(ctx, db, in.ID, n.now.UnixMilli(), kind, "", text)
}

func alertCount(n int) string {
	if n == 1 {
		return "1 alert"
	}
	return fmt.Sprintf("%d alerts", n)
}

// Timeline returns all that happened to an incident and what is still to come, in the order of time, or ErrNoIncident.
func (p *Pager) Timeline(ctx context.Context, id string) ([]Event, error) {
	in, err := p.Incident(ctx, id)
	if err != nil {
		return nil, err
	}
	out, err := p.events(ctx, id)
	if err != nil {
		return nil, err
	}
	for i := range in.Pages {
		pg := &in.Pages[i]
		out = append(out, Event{At: cmp.Or(pg.LeftAt, pg.CreatedAt), Kind: "page", Who: pg.Person, Text: pg.text(), Page: pg})
	}
	next, err := p.toCome(ctx, id)
	if err != nil {
		return nil, err
	}
	out = append(out, next...)
	slices.SortStableFunc(out, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	return out, nil
}

func (p *Pager) events(ctx context.Context, id string) ([]Event, error) {
	rows, err := p.db.QueryContext(ctx, `SELECT at, kind, who, text FROM incident_event WHERE incident = ? ORDER BY seq`, id)
	if err != nil {
		return nil, fmt.Errorf("read what happened to incident %s: %w", id, err)
	}
	defer rows.Close()
	out := []Event{}
	for rows.Next() {
		var ev Event
		if err := rows.Scan(&ev.At, &ev.Kind, &ev.Who, &ev.Text); err != nil {
			return nil, fmt.Errorf("read what happened to incident %s: %w", id, err)
		}
		out = append(out, ev)
	}
	return out, rows.Err()
}

// toCome are the steps that wait.
func (p *Pager) toCome(ctx context.Context, id string) ([]Event, error) {
	steps, err := p.pending(ctx, id)
	out := make([]Event, len(steps))
	for i, s := range steps {
		out[i] = Event{At: s.due, Kind: "next", Who: s.who, Text: s.text}
	}
	return out, err
}

// pendingStep is a step that waits: to whom it goes, and in words.
type pendingStep struct {
	due       int64
	who, text string
}

// pending are the steps of an incident that wait, the next one first.
func (p *Pager) pending(ctx context.Context, id string) (out []pendingStep, err error) {
	rows, err := p.db.QueryContext(ctx, `SELECT s.due_at, s.kind, s.round, s.step, s.person, s.receiver, e.receiver FROM escalation_step s
		JOIN escalation e ON e.incident = s.incident WHERE s.incident = ? AND s.state = 'pending' ORDER BY s.due_at, s.seq`, id)
	if err != nil {
		return nil, fmt.Errorf("read what is to come for incident %s: %w", id, err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			s        escalationStep
			receiver string
		)
		if err := rows.Scan(&s.due, &s.kind, &s.round, &s.step, &s.person, &s.receiver, &receiver); err != nil {
			return nil, fmt.Errorf("read what is to come for incident %s: %w", id, err)
		}
		who, text := p.onCallNext(&s, p.onCall().PolicyOf(receiver))
		out = append(out, pendingStep{s.due, who, text})
	}
	return out, rows.Err()
}

// onCallNext says to whom a step goes, as the rotas stand now, and what it is.
func (p *Pager) onCallNext(s *escalationStep, policy *oncall.Policy) (who, text string) {
	people := func(step int) string {
		names, _ := p.onCall().Who(policy.Steps[step], time.UnixMilli(s.due))
		return andOthers(names)
	}
	switch {
	case s.kind == stepOfChannel:
		return s.person, s.person + " by " + s.receiver
	case s.kind == stepOfSnooze:
		return "", "the snooze ends"
	case policy == nil:
		return "", "the policy is no longer there"
	case s.step < len(policy.Steps):
		return people(s.step), fmt.Sprintf("step %d of %d pages %s", s.step+1, len(policy.Steps), people(s.step))
	case s.round < policy.Repeat:
		return people(0), fmt.Sprintf("from the start, round %d of %d: %s", s.round+2, policy.Repeat+1, people(0))
	case policy.Fallback != "":
		return policy.Fallback, "the fallback, " + policy.Fallback
	}
	return "", "nobody: there is no fallback"
}

// text says what became of a page.
func (pg *Page) text() string {
	to := pg.Integration + " to " + pg.Receiver
	switch {
	case pg.State == "bundled":
		return to + ": waits to leave with others, three messages a minute are the most"
	case pg.Bundle != "":
		return to + ": " + pg.State + " with others in one message"
	}
	return to + ": " + pg.State
}

// refireWithin is how soon after its end an incident that fires again is the same one, and ackKept how long its
// acknowledgement then still counts: whoever gave it is awake.
const (
	refireWithin = 5 * time.Minute
	ackKept      = 30 * time.Minute
)

// lastOf returns the group's last incident where it bears on a notification that finds none open: refired where the
// same begins again; not refired where it was closed by hand with all that fires now.
func lastOf(ctx context.Context, db database.Querier, n *notification, none bool) (last *Incident, refired bool, err error) {
	if !none || n.firingCount == 0 {
		return nil, false, nil
	}
	found, err := queryIncidents(ctx, db, `WHERE `+ofGroup+` ORDER BY resolved_at DESC LIMIT 1`, n.groupKey, n.groupKey)
	if err != nil || len(found) == 0 {
		return nil, false, err
	}
	last = found[0]
	if err := last.loadDetails(ctx, db); err != nil {
		return nil, false, err
	}
	if last.Closing != nil && last.Closing.ByHand && last.holds(n.alerts) {
		return last, false, nil
	}
	if n.now.UnixMilli()-last.ResolvedAt <= refireWithin.Milliseconds() && n.now.UnixMilli() >= last.ResolvedAt {
		return last, true, nil
	}
	return nil, false, nil
}

// holds reports whether all of the alerts that fire were part of the incident when it was closed.
func (in *Incident) holds(alerts []IncidentAlert) bool {
	had := map[string]int64{}
	for _, a := range in.Alerts {
		if a.EndsAt == 0 {
			had[alert.LabelText(a.Labels)] = a.StartsAt
		}
	}
	for _, a := range alerts {
		if at, ok := had[alert.LabelText(a.Labels)]; a.EndsAt == 0 && (!ok || at != a.StartsAt) {
			return false
		}
	}
	return true
}

// reopen makes an incident the present one again. A fresh acknowledgement stays, and a snooze until its end.
func (in *Incident) reopen(now int64) {
	in.ResolvedAt = 0
	if a := in.Ack; a != nil && (a.Until == 0 && now-a.At > ackKept.Milliseconds() || a.Until != 0 && now >= a.Until) {
		in.Ack = nil
	}
	for i := range in.Alerts {
		if in.Alerts[i].EndsAt == 0 { // it was closed by hand
			in.Alerts[i].EndsAt = now
		}
	}
}

// loadDetails reads what stands beside an incident's row: the end of a snooze, and the closing comment.
func (in *Incident) loadDetails(ctx context.Context, db database.Querier) error {
	rows, err := db.QueryContext(ctx, `SELECT snoozed_until, closed_by, closed_at, closing, by_hand FROM incident_more WHERE incident = ?`, in.ID)
	if err != nil {
		return fmt.Errorf("read incident %s: %w", in.ID, err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			until int64
			c     Closing
		)
		if err := rows.Scan(&until, &c.By, &c.At, &c.Comment, &c.ByHand); err != nil {
			return fmt.Errorf("read incident %s: %w", in.ID, err)
		}
		if in.Ack != nil {
			in.Ack.Until = until
		}
		if c.At != 0 {
			in.Closing = &c
		}
	}
	return rows.Err()
}

// escalates reads how far the incident's escalation has come.
func (p *Pager) escalates(ctx context.Context, in *Incident) error {
	var (
		e        Escalation
		receiver string
	)
	err := p.db.QueryRowContext(ctx, `SELECT state, receiver FROM escalation WHERE incident = ?`, in.ID).Scan(&e.State, &receiver)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read escalation of incident %s: %w", in.ID, err)
	}
	if policy := p.onCall().PolicyOf(receiver); policy != nil {
		e.Policy = policy.Name
	}
	next, err := p.pending(ctx, in.ID)
	if len(next) > 0 {
		e.NextAt, e.NextTo = next[0].due, next[0].who
	}
	in.Escalation = &e
	return err
}
