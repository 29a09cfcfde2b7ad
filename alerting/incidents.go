package alerting

import (
	"context"
	"fmt"

	"github.com/prometheus/alertmanager/notify"
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
	if in.Pages, err = queryPages(ctx, p.often, in.ID); err != nil {
		return err
	}
	if err := in.more(ctx, p.often); err != nil {
		return err
	}
	return p.escalates(ctx, in)
}

func readIncident(ctx context.Context, db querier, id string) (Incident, error) {
	found, err := queryIncidents(ctx, db, `WHERE id = ?`, id)
	if err != nil {
		return Incident{}, err
	}
	if len(found) == 0 {
		return Incident{}, fmt.Errorf("incident %q: %w", id, ErrNoIncident)
	}
	return *found[0], nil
}

func queryPages(ctx context.Context, db querier, incident string) ([]Page, error) {
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
