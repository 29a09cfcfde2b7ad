package alerting

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/alertmanager/notify"

	"bramble/alerting/alert"
	"bramble/alerting/database"
	"bramble/alerting/picture"
)

// Incidents returns incidents with their pages, the newest first.
func (p *Pager) Incidents(ctx context.Context, q Query) ([]Incident, error) {
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
	found, err := queryIncidents(ctx, p.db, where+` ORDER BY opened_at DESC, id LIMIT ?`, append(args, q.Limit)...)
	if err != nil {
		return nil, err
	}
	out := make([]Incident, 0, len(found))
	for _, in := range found {
		if err := p.fill(ctx, in); err != nil {
			return nil, err
		}
		out = append(out, *in)
	}
	return out, nil
}

// Incident returns one incident with its pages, or ErrNoIncident.
func (p *Pager) Incident(ctx context.Context, id string) (Incident, error) {
	in, err := readIncident(ctx, p.often, id)
	if err != nil {
		return Incident{}, err
	}
	return in, p.fill(ctx, &in)
}

// fill reads what belongs to an incident beside its row.
func (p *Pager) fill(ctx context.Context, in *Incident) (err error) {
	in.Now = p.now(in)
	if in.Pages, err = queryPages(ctx, p.often, in.ID); err != nil {
		return err
	}
	if err := in.more(ctx, p.often); err != nil {
		return err
	}
	return p.escalates(ctx, in)
}

// now says how the condition of an incident stands: its value, or since when it is over.
func (p *Pager) now(in *Incident) string {
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

func readIncident(ctx context.Context, db database.Querier, id string) (Incident, error) {
	found, err := queryIncidents(ctx, db, `WHERE id = ?`, id)
	if err != nil {
		return Incident{}, err
	}
	if len(found) == 0 {
		return Incident{}, fmt.Errorf("incident %q: %w", id, ErrNoIncident)
	}
	return *found[0], nil
}

func queryPages(ctx context.Context, db database.Querier, incident string) ([]Page, error) {
	rows, err := db.QueryContext(ctx, `SELECT p.id, p.receiver, p.integration, p.reason, p.created_at, p.reading_at, p.state, p.attempts, p.answer,
		p.left_at, coalesce(t.person, ''), coalesce(t.kind, ''), coalesce(t.bundle, '')
		FROM page p LEFT JOIN page_to t ON t.page = p.id WHERE p.incident = ? ORDER BY p.seq`, incident)
	if err != nil {
		return nil, fmt.Errorf("read pages of incident %s: %w", incident, err)
	}
	defer rows.Close()
	out := []Page{}
	for rows.Next() {
		var (
			pg        Page
			reason    int
			readingAt int64
		)
		err := rows.Scan(&pg.ID, &pg.Receiver, &pg.Integration, &reason, &pg.CreatedAt, &readingAt, &pg.State, &pg.Attempts, &pg.Answer, &pg.LeftAt,
			&pg.Person, &pg.About, &pg.Bundle)
		if err != nil {
			return nil, fmt.Errorf("read pages of incident %s: %w", incident, err)
		}
		pg.Reason = notify.NotifyReason(reason).String()
		if readingAt != 0 && pg.LeftAt != 0 {
			pg.LatencyMs = pg.LeftAt - readingAt
		}
		out = append(out, pg)
	}
	return out, rows.Err()
}
