package alerting

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

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
		if in.Pages, err = queryPages(ctx, p.db, in.ID); err != nil {
			return nil, err
		}
		out = append(out, *in)
	}
	return out, nil
}

// Incident returns one incident with its pages, or ErrNoIncident.
func (p *Pager) Incident(ctx context.Context, id string) (Incident, error) {
	return readIncident(ctx, p.db, id)
}

func readIncident(ctx context.Context, db querier, id string) (Incident, error) {
	found, err := queryIncidents(ctx, db, `WHERE id = ?`, id)
	if err != nil {
		return Incident{}, err
	}
	if len(found) == 0 {
		return Incident{}, fmt.Errorf("incident %q: %w", id, ErrNoIncident)
	}
	in := found[0]
	in.Pages, err = queryPages(ctx, db, id)
	return *in, err
}

func queryPages(ctx context.Context, db querier, incident string) ([]Page, error) {
	rows, err := db.QueryContext(ctx, `SELECT id, receiver, integration, reason, created_at, reading_at, state, attempts, answer, left_at
		FROM page WHERE incident = ? ORDER BY seq`, incident)
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
		if err := rows.Scan(&pg.ID, &pg.Receiver, &pg.Integration, &reason, &pg.CreatedAt, &readingAt, &pg.State, &pg.Attempts, &pg.Answer, &pg.LeftAt); err != nil {
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

// Acknowledge records that who takes the incident on. Repeated pages stop, those that wait for delivery included; new
// alerts and the resolve still page. Acknowledging again replaces name and comment. It survives a restart. The error is
// ErrNoIncident where there is none; acknowledging a resolved incident is an error too.
func (p *Pager) Acknowledge(ctx context.Context, id, who, comment string) error {
	if who == "" {
		return errors.New("acknowledge incident: who is missing")
	}
	now := time.Now().UnixMilli()
	err := p.commits.do(func(c *sql.Conn) error {
		in, err := readIncident(ctx, c, id)
		if err != nil {
			return err
		}
		if in.ResolvedAt != 0 {
			return fmt.Errorf("acknowledge incident %s: it is resolved already", id)
		}
		in.Ack, in.ChangedAt = &Ack{By: who, At: now, Comment: comment}, now
		if err := saveIncident(ctx, c, &in); err != nil {
			return err
		}
		_, err = c.ExecContext(ctx, `UPDATE page SET state = 'stopped', answer = 'acknowledged before it was delivered'
			WHERE incident = ? AND state = 'waiting' AND reason = ?`, id, notify.ReasonRepeatIntervalElapsed)
		return err
	})
	if err != nil {
		return err
	}
	p.mail.drop(func(l *letter) bool { return l.incident == id && l.reason == notify.ReasonRepeatIntervalElapsed })
	p.log.Info("incident acknowledged", "incident", id, "by", who)
	p.changed(id)
	return nil
}
