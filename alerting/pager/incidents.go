package pager

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
	"bramble/alerting/picture"
	"bramble/alerting/receivers"
)

// millis is t in Unix milliseconds, 0 for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func incidentAlert(a *amalert.Alert) incident.Alert {
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
func (p *Pager) Incidents(ctx context.Context, q incident.Query) ([]incident.Incident, error) {
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
	found, err := incident.Find(ctx, p.db, where+` ORDER BY opened_at DESC, id LIMIT ?`, append(args, q.Limit)...)
	if err != nil {
		return nil, err
	}
	out := make([]incident.Incident, 0, len(found))
	for _, in := range found {
		if err := p.fill(ctx, in); err != nil {
			return nil, err
		}
		out = append(out, *in)
	}
	return out, nil
}

// Incident returns one incident with its pages, or ErrNone.
func (p *Pager) Incident(ctx context.Context, id string) (incident.Incident, error) {
	in, err := incident.Get(ctx, p.often, id)
	if err != nil {
		return incident.Incident{}, err
	}
	return in, p.fill(ctx, &in)
}

// fill reads the parts of an incident that are not in its row.
func (p *Pager) fill(ctx context.Context, in *incident.Incident) (err error) {
	in.Now = p.now(in)
	if in.Pages, err = queryPages(ctx, p.often, in.ID); err != nil {
		return err
	}
	if err := in.LoadDetails(ctx, p.often); err != nil {
		return err
	}
	return p.escalates(ctx, in)
}

// now says how the condition of an incident stands: its value, or since when it is over.
func (p *Pager) now(in *incident.Incident) string {
	firing, over, since, value := 0, 0, int64(0), ""
	for _, a := range in.Alerts {
		if a.EndsAt != 0 || in.ResolvedAt != 0 {
			continue
		}
		firing++
		fp := alert.LabelSet(a.Labels).Fingerprint()
		if at := p.overSince(fp); at != 0 {
			over, since = over+1, max(since, at)
		}
		for _, t := range p.firingOf(fp) {
			if c := p.condition(t); c.At != 0 && c.Metric != alert.ThrottledMetric && c.Metric != alert.UpMetric { // bits have no value to show
				value = "now " + picture.Number(c.Metric, c.Value)
			}
		}
	}
	if firing != 1 {
		value = ""
	}
	switch {
	case over == 0:
		return value
	case over < firing:
		return fmt.Sprintf("condition over for %d of %d alerts", over, firing)
	}
	text := "condition over since " + time.UnixMilli(since).UTC().Format("15:04:05 UTC")
	if value != "" {
		text += ", " + value
	}
	return text
}

func queryPages(ctx context.Context, db database.Querier, id string) ([]incident.Page, error) {
	rows, err := db.QueryContext(ctx, `SELECT p.id, p.receiver, p.integration, p.reason, p.created_at, p.reading_at, p.state, p.attempts, p.answer,
		p.left_at, coalesce(t.person, ''), coalesce(t.kind, ''), coalesce(t.bundle, '')
		FROM page p LEFT JOIN page_to t ON t.page = p.id WHERE p.incident = ? ORDER BY p.seq`, id)
	if err != nil {
		return nil, fmt.Errorf("read pages of incident %s: %w", id, err)
	}
	defer rows.Close()
	out := []incident.Page{}
	for rows.Next() {
		var (
			pg        incident.Page
			reason    int
			readingAt int64
		)
		err := rows.Scan(&pg.ID, &pg.Receiver, &pg.Integration, &reason, &pg.CreatedAt, &readingAt, &pg.State, &pg.Attempts, &pg.Answer, &pg.LeftAt,
			&pg.Person, &pg.About, &pg.Bundle)
		if err != nil {
			return nil, fmt.Errorf("read pages of incident %s: %w", id, err)
		}
		pg.Reason = notify.NotifyReason(reason).String()
		if readingAt != 0 && pg.LeftAt != 0 {
			pg.LatencyMs = pg.LeftAt - readingAt
		}
		out = append(out, pg)
	}
	return out, rows.Err()
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
func (p *Pager) CountPages(ctx context.Context, from, to time.Time) ([]RuleCount, error) {
	found, err := incident.Find(ctx, p.db, `WHERE opened_at >= ? AND opened_at < ?`, from.UnixMilli(), to.UnixMilli())
	if err != nil {
		return nil, err
	}
	byRule := map[string]*RuleCount{}
	for _, in := range found {
		pages, err := queryPages(ctx, p.db, in.ID)
		if err != nil {
			return nil, err
		}
		name := in.Alerts[0].Labels[alert.NameLabel]
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
func recordChange(ctx context.Context, db database.Querier, n *notification, in *incident.Incident, before map[string]bool, refired bool) error {
	began, ended := 0, 0
	for _, a := range n.alerts {
		if had := before[alert.LabelText(a.Labels)]; a.EndsAt == 0 && !had {
			began++
		} else if a.EndsAt != 0 && had {
			ended++
		}
	}
	kind, text := "alerts", fmt.Sprintf("%s more", incident.CountText(began))
	switch at := n.now.UnixMilli(); {
	case refired:
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
	return incident.Record(ctx, db, in.ID, n.now.UnixMilli(), kind, "", text)
}

// Timeline returns all past and coming events of an incident, in the order of time, or ErrNone.
func (p *Pager) Timeline(ctx context.Context, id string) ([]incident.Event, error) {
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
		out = append(out, incident.Event{At: cmp.Or(pg.LeftAt, pg.CreatedAt), Kind: "page", Who: pg.Person, Text: pg.Text(), Page: pg})
	}
	next, err := p.toCome(ctx, id)
	if err != nil {
		return nil, err
	}
	out = append(out, next...)
	slices.SortStableFunc(out, func(a, b incident.Event) int { return cmp.Compare(a.At, b.At) })
	return out, nil
}

func (p *Pager) events(ctx context.Context, id string) ([]incident.Event, error) {
	rows, err := p.db.QueryContext(ctx, `SELECT at, kind, who, text FROM incident_event WHERE incident = ? ORDER BY seq`, id)
	if err != nil {
		return nil, fmt.Errorf("read what happened to incident %s: %w", id, err)
	}
	defer rows.Close()
	out := []incident.Event{}
	for rows.Next() {
		var ev incident.Event
		if err := rows.Scan(&ev.At, &ev.Kind, &ev.Who, &ev.Text); err != nil {
			return nil, fmt.Errorf("read what happened to incident %s: %w", id, err)
		}
		out = append(out, ev)
	}
	return out, rows.Err()
}

// toCome are the steps that wait.
func (p *Pager) toCome(ctx context.Context, id string) ([]incident.Event, error) {
	steps, err := p.pending(ctx, id)
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

// onCallNext says to whom a step goes, as the rotas stand now, and the step's kind.
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

// lastOf returns the group's last incident where it bears on a notification that finds none open: refired where the
// same begins again; not refired where it was closed by hand with all that fires now.
func lastOf(ctx context.Context, db database.Querier, n *notification, none bool) (last *incident.Incident, refired bool, err error) {
	if !none || n.firingCount == 0 {
		return nil, false, nil
	}
	found, err := incident.Find(ctx, db, `WHERE `+ofGroup+` ORDER BY resolved_at DESC LIMIT 1`, n.groupKey, n.groupKey)
	if err != nil || len(found) == 0 {
		return nil, false, err
	}
	last = found[0]
	if err := last.LoadDetails(ctx, db); err != nil {
		return nil, false, err
	}
	if last.Closing != nil && last.Closing.ByHand && last.Holds(n.alerts) {
		return last, false, nil
	}
	if n.now.UnixMilli()-last.ResolvedAt <= incident.RefireWithin.Milliseconds() && n.now.UnixMilli() >= last.ResolvedAt {
		return last, true, nil
	}
	return nil, false, nil
}

// escalates reads how far the incident's escalation has come.
func (p *Pager) escalates(ctx context.Context, in *incident.Incident) error {
	var (
		e        incident.Escalation
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

// ReadLink checks the signature and the age of a link of a kind: the last element of its URL's path. The error is ErrLink
// or ErrLinkExpired; with the latter the link is returned.
func (p *Pager) ReadLink(kind receivers.LinkKind, text string) (receivers.Link, error) {
	return p.parts.ReadLink(kind, text, time.Now())
}

// Picture draws the incident of a PictureLink as it was when the page was written.
func (p *Pager) Picture(ctx context.Context, l receivers.Link) ([]byte, error) {
	in, err := p.Incident(ctx, l.Incident)
	if err != nil {
		return nil, err
	}
	return p.parts.Pictures.Draw(ctx, &in, l.At)
}

// LinkedIncident is the incident that an AckLink shows.
type LinkedIncident struct {
	incident.Incident
	// Before is how the last incident of the same rule at the same place ended; empty where nobody wrote anything.
	Before string
	// Picture is a PictureLink, as it stands in a URL; empty where there is nothing to draw.
	Picture string
}

// Linked returns the incident that an AckLink shows, or ErrNone.
func (p *Pager) Linked(ctx context.Context, l receivers.Link) (LinkedIncident, error) {
	in, err := p.Incident(ctx, l.Incident)
	if err != nil {
		return LinkedIncident{}, err
	}
	out := LinkedIncident{Incident: in}
	if out.Before, err = p.parts.Before(ctx, &in); err != nil {
		return out, err
	}
	out.Picture = p.parts.PictureLink(&in, l)
	return out, nil
}
