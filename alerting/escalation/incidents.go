package escalation

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"

	"bramble/alerting/alert"
	"bramble/alerting/database"
	"bramble/alerting/incident"
	"bramble/alerting/oncall"
	"bramble/storage/statedb"
)

// millis is t in Unix milliseconds, 0 for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// AlertOf is an alert of Alertmanager's as an incident holds it.
func AlertOf(a *amalert.Alert) incident.Alert {
	out := incident.Alert{Labels: map[string]string{}, Annotations: map[string]string{}, StartsAt: millis(a.StartsAt)}
	for n, v := range a.Labels {
		out.Labels[string(n)] = string(v)
	}
	for n, v := range a.Annotations {
		out.Annotations[string(n)] = string(v)
	}
	if a.Resolved() {
		out.EndsAt = millis(a.EndsAt)
	}
	return out
}

// Incidents returns incidents with their pages, the newest first.
func (g *Engine) Incidents(ctx context.Context, q incident.Query) ([]incident.Incident, error) {
	where, args := `WHERE 1 = 1`, []any{}
	if q.Open {
		where += ` AND resolved_at = 0`
	}
	if q.Before != 0 {
		where, args = where+` AND opened_at < ?`, append(args, q.Before)
	}
	if q.Limit <= 0 {
		q.Limit = 100
	}
	found, err := incident.Find(ctx, g.DB, where+` ORDER BY opened_at DESC, id LIMIT ?`, append(args, q.Limit)...)
	if err != nil {
		return nil, err
	}
	out := make([]incident.Incident, 0, len(found))
	for _, in := range found {
		if err := g.fill(ctx, in); err != nil {
			return nil, err
		}
		out = append(out, *in)
	}
	return out, nil
}

// Incident returns one incident with its pages, or ErrNone.
func (g *Engine) Incident(ctx context.Context, id string) (incident.Incident, error) {
	in, err := incident.Get(ctx, g.Often, id)
	if err != nil {
		return incident.Incident{}, err
	}
	return in, g.fill(ctx, &in)
}

// fill reads the parts of an incident that are not in its row.
func (g *Engine) fill(ctx context.Context, in *incident.Incident) (err error) {
	in.Now = g.Now(in)
	if in.Pages, err = queryPages(ctx, g.Often, in.ID); err != nil {
		return err
	}
	if err := in.LoadDetails(ctx, g.Often); err != nil {
		return err
	}
	return g.escalates(ctx, in)
}

func queryPages(ctx context.Context, db database.Querier, id string) ([]incident.Page, error) {
	out := []incident.Page{}
	err := statedb.Each(ctx, db, func(row *sql.Rows) error {
		var (
			pg        incident.Page
			reason    int
			readingAt int64
		)
		err := row.Scan(&pg.ID, &pg.Receiver, &pg.Integration, &reason, &pg.CreatedAt, &readingAt, &pg.State, &pg.Attempts, &pg.Error, &pg.LeftAt,
			&pg.Person, &pg.About, &pg.Bundle)
		pg.Reason, pg.At = notify.NotifyReason(reason).String(), max(pg.LeftAt, pg.CreatedAt)
		if pg.State == "delivered" {
			pg.Error = ""
		}
		if readingAt != 0 && pg.LeftAt != 0 {
			pg.LatencyMs = pg.LeftAt - readingAt
		}
		out = append(out, pg)
		return err
	}, `SELECT p.id, p.receiver, p.integration, p.reason, p.created_at, p.reading_at, p.state, p.attempts, p.answer,
		p.left_at, coalesce(t.person, ''), coalesce(t.kind, ''), coalesce(t.bundle, '')
		FROM page p LEFT JOIN page_to t ON t.page = p.id WHERE p.incident = ? ORDER BY p.seq`, id)
	if err != nil {
		return nil, fmt.Errorf("read pages of incident %s: %w", id, err)
	}
	return out, nil
}

// RuleCount counts the consequences of a rule in a time.
type RuleCount struct {
	Rule             string
	Incidents, Pages int
	// Boards are those that its incidents touched, in order.
	Boards []string
}

// CountPages counts incidents that began between two times, and the pages written for them, by the name of the alert.
// Recorded ones, which page nobody, count as incidents.
func (g *Engine) CountPages(ctx context.Context, from, to time.Time) ([]RuleCount, error) {
	found, err := incident.Find(ctx, g.DB, `WHERE opened_at >= ? AND opened_at < ?`, from.UnixMilli(), to.UnixMilli())
	if err != nil {
		return nil, err
	}
	byRule := map[string]*RuleCount{}
	for _, in := range found {
		pages, err := queryPages(ctx, g.DB, in.ID)
		if err != nil {
			return nil, err
		}
		name := alert.Name(in.Alerts[0].Labels)
		c := byRule[name]
		if c == nil {
			c = &RuleCount{Rule: name}
			byRule[name] = c
		}
		c.Incidents++
		c.Pages += len(pages)
		for _, a := range in.Alerts {
			c.Boards = append(c.Boards, a.Boards...)
			if b := a.Labels[alert.BoardLabel]; b != "" {
				c.Boards = append(c.Boards, b)
			}
		}
	}
	out := make([]RuleCount, 0, len(byRule))
	for _, c := range byRule {
		slices.Sort(c.Boards)
		c.Boards = slices.Compact(c.Boards)
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b RuleCount) int { return cmp.Or(cmp.Compare(b.Pages, a.Pages), cmp.Compare(a.Rule, b.Rule)) })
	return out, nil
}

// recordChange notes a notification's changes to an incident.
func recordChange(ctx context.Context, db database.Querier, n *Notification, in *incident.Incident, ch change) error {
	began, ended := 0, 0
	for _, a := range n.Alerts {
		if had := ch.before[alert.LabelText(a.Labels)]; a.EndsAt == 0 && !had {
			began++
		} else if a.EndsAt != 0 && had {
			ended++
		}
	}
	kind, text := "alerts", fmt.Sprintf("%s more", incident.CountText(began))
	switch at := n.Now.UnixMilli(); {
	case ch.refired:
		kind, text = "refired", in.Title
	case in.OpenedAt == at:
		kind, text = "opened", in.Title
	case in.ResolvedAt == at:
		kind, text = "resolved", "all alerts ended"
	case began == 0 && ended > 0:
		kind, text = "ended", fmt.Sprintf("%s of %d ended", incident.CountText(ended), len(in.Alerts))
	case began == 0:
		return nil
	}
	return incident.Record(ctx, db, in.ID, n.Now.UnixMilli(), kind, "", text)
}

// Timeline returns all past and coming events of an incident, in the order of time, or ErrNone.
func (g *Engine) Timeline(ctx context.Context, id string) ([]incident.Event, error) {
	in, err := g.Incident(ctx, id)
	if err != nil {
		return nil, err
	}
	out, err := g.events(ctx, id)
	if err != nil {
		return nil, err
	}
	for i := range in.Pages {
		pg := &in.Pages[i]
		out = append(out, incident.Event{At: pg.At, Kind: "page", Who: pg.Person, Text: pg.Text(), Page: pg})
	}
	next, err := g.toCome(ctx, id)
	if err != nil {
		return nil, err
	}
	out = append(out, next...)
	slices.SortStableFunc(out, func(a, b incident.Event) int { return cmp.Compare(a.At, b.At) })
	return out, nil
}

func (g *Engine) events(ctx context.Context, id string) ([]incident.Event, error) {
	out, err := statedb.All(ctx, g.DB, func(row *sql.Rows) (ev incident.Event, err error) {
		err = row.Scan(&ev.At, &ev.Kind, &ev.Who, &ev.Text)
		return ev, err
	}, `SELECT at, kind, who, text FROM incident_event WHERE incident = ? ORDER BY seq`, id)
	if err != nil {
		return nil, fmt.Errorf("read what happened to incident %s: %w", id, err)
	}
	return out, nil
}

// toCome are the steps that wait.
func (g *Engine) toCome(ctx context.Context, id string) ([]incident.Event, error) {
	steps, err := g.pending(ctx, id)
	out := make([]incident.Event, len(steps))
	for i, s := range steps {
		out[i] = incident.Event{At: s.due, Kind: "next", Who: s.who, Text: s.text}
	}
	return out, err
}

// pendingStep is a step that waits: to whom it goes, and in words.
type pendingStep struct {
	due       int64
	who, text string
}

// pending are the steps of an incident that wait, the next one first.
func (g *Engine) pending(ctx context.Context, id string) ([]pendingStep, error) {
	out, err := statedb.All(ctx, g.DB, func(row *sql.Rows) (pendingStep, error) {
		var (
			s        escalationStep
			receiver string
		)
		if err := row.Scan(&s.due, &s.kind, &s.round, &s.step, &s.person, &s.receiver, &receiver); err != nil {
			return pendingStep{}, err
		}
		who, text := g.onCallNext(&s, g.OnCall().PolicyOf(receiver))
		return pendingStep{s.due, who, text}, nil
	}, `SELECT s.due_at, s.kind, s.round, s.step, s.person, s.receiver, e.receiver FROM escalation_step s
		JOIN escalation e ON e.incident = s.incident WHERE s.incident = ? AND s.state = 'pending' ORDER BY s.due_at, s.seq`, id)
	if err != nil {
		return nil, fmt.Errorf("read what is to come for incident %s: %w", id, err)
	}
	return out, nil
}

// onCallNext says to whom a step goes, as the rotas stand now, and the step's kind.
func (g *Engine) onCallNext(s *escalationStep, policy *oncall.Policy) (who, text string) {
	people := func(step int) string {
		names, _ := g.OnCall().Who(policy.Steps[step], time.UnixMilli(s.due))
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

// lastOf returns the group's last incident where it bears on a notification that finds none open: refired where the
// same begins again; not refired where it was closed by hand with all that fires now.
func lastOf(ctx context.Context, db database.Querier, n *Notification, none bool) (last *incident.Incident, refired bool, err error) {
	if !none || n.firingCount() == 0 {
		return nil, false, nil
	}
	found, err := incident.Find(ctx, db, `WHERE `+ofGroup+` ORDER BY resolved_at DESC LIMIT 1`, n.GroupKey, n.GroupKey)
	if err != nil || len(found) == 0 {
		return nil, false, err
	}
	last = found[0]
	if err := last.LoadDetails(ctx, db); err != nil {
		return nil, false, err
	}
	if last.Closing != nil && last.Closing.ByHand && last.Holds(n.Alerts) {
		return last, false, nil
	}
	if n.Now.UnixMilli()-last.ResolvedAt <= incident.RefireWithin.Milliseconds() && n.Now.UnixMilli() >= last.ResolvedAt {
		return last, true, nil
	}
	return nil, false, nil
}

// escalates reads how far the incident's escalation has come.
func (g *Engine) escalates(ctx context.Context, in *incident.Incident) error {
	var (
		e        incident.Escalation
		receiver string
	)
	err := g.DB.QueryRowContext(ctx, `SELECT state, receiver FROM escalation WHERE incident = ?`, in.ID).Scan(&e.State, &receiver)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read escalation of incident %s: %w", in.ID, err)
	}
	if policy := g.OnCall().PolicyOf(receiver); policy != nil {
		e.Policy = policy.Name
	}
	next, err := g.pending(ctx, in.ID)
	if len(next) > 0 {
		e.NextAt, e.NextTo = next[0].due, next[0].who
	}
	in.Escalation = &e
	return err
}

// CloseOver ends an incident whose alerts are over, unless it changed meanwhile. People who were paged are notified, but not where
// something holds its alerts.
func (g *Engine) CloseOver(in *incident.Incident, held bool) error {
	return g.do(func(e *transaction) error {
		now, err := incident.Get(e.ctx, e.c, in.ID)
		if err != nil || now.ResolvedAt != 0 || now.ChangedAt != in.ChangedAt {
			return err
		}
		if held {
			return e.endQuietly(&now, "all alerts ended while they were silenced")
		}
		now.ResolvedAt, now.ChangedAt = e.now, e.now
		return errors.Join(incident.Save(e.ctx, e.c, &now), e.event(in.ID, "resolved", "", "all alerts ended"),
			e.endNotified(&now, "over before it was delivered"))
	})
}
