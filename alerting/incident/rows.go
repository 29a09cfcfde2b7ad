package incident

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"bramble/alerting/database"
	"bramble/storage/statedb"
)

const columns = `id, group_key, receiver, title, severity, started_at, opened_at, changed_at, resolved_at, alerts, acked_by, acked_at, ack_comment`

type scanner interface{ Scan(...any) error }

func scan(row scanner) (*Incident, error) {
	var (
		in     Incident
		ack    Ack
		alerts string
	)
	err := row.Scan(&in.Number, &in.ID, &in.GroupKey, &in.Receiver, &in.Title, &in.Severity, &in.StartedAt, &in.OpenedAt, &in.ChangedAt, &in.ResolvedAt,
		&alerts, &ack.By, &ack.At, &ack.Comment)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(alerts), &in.Alerts); err != nil {
		return nil, fmt.Errorf("decode alerts of incident %s: %w", in.ID, err)
	}
	if ack.At != 0 {
		in.Ack = &ack
	}
	in.Pages = []Page{}
	return &in, nil
}

// Find returns the incidents that a WHERE clause selects, without their pages and details.
func Find(ctx context.Context, db database.Querier, where string, args ...any) ([]*Incident, error) {
	out, err := statedb.All(ctx, db, func(row *sql.Rows) (*Incident, error) { return scan(row) }, `SELECT number, `+columns+` FROM incident `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read incidents: %w", err)
	}
	return out, nil
}

// Save writes in, under the next number where it is new. An insert that turns into an update would use up a number.
func Save(ctx context.Context, db database.Querier, in *Incident) error {
	alerts, err := json.Marshal(in.Alerts)
	if err != nil {
		return fmt.Errorf("encode alerts of incident %s: %w", in.ID, err)
	}
	ack := cmp.Or(in.Ack, &Ack{})
	row := []any{
		in.ID, in.GroupKey, in.Receiver, in.Title, in.Severity, in.StartedAt, in.OpenedAt, in.ChangedAt, in.ResolvedAt, string(alerts),
		ack.By, ack.At, ack.Comment,
	}
	updated, err := db.ExecContext(ctx, `UPDATE incident SET (`+columns+`) = (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13) WHERE id = ?1`, row...)
	var known int64
	if err == nil {
		known, err = updated.RowsAffected()
	}
	if err == nil && known == 0 {
		_, err = db.ExecContext(ctx, `INSERT INTO incident (`+columns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`, row...)
	}
	if err != nil {
		return fmt.Errorf("write incident %s: %w", in.ID, err)
	}
	return nil
}

// Get returns an incident by its ID, or ErrNone.
func Get(ctx context.Context, db database.Querier, id string) (Incident, error) {
	found, err := Find(ctx, db, `WHERE id = ?`, id)
	if err != nil {
		return Incident{}, err
	}
	if len(found) == 0 {
		return Incident{}, fmt.Errorf("incident %q: %w", id, ErrNone)
	}
	return *found[0], nil
}

// Record writes an event of an incident, at a time in Unix milliseconds.
func Record(ctx context.Context, db database.Querier, incident string, at int64, kind, who, text string) error {
	_, err := db.ExecContext(ctx, `INSERT INTO incident_event (incident, at, kind, who, text) VALUES (?,?,?,?,?)`, incident, at, kind, who, text)
	if err != nil {
		return fmt.Errorf("write what happened to incident %s: %w", incident, err)
	}
	return nil
}

// LoadDetails reads the rows beside an incident's own: the end of a snooze, and the closing comment.
func (in *Incident) LoadDetails(ctx context.Context, db database.Querier) error {
	err := statedb.Each(ctx, db, func(row *sql.Rows) error {
		var (
			until int64
			c     Closing
		)
		if err := row.Scan(&until, &c.By, &c.At, &c.Comment, &c.ByHand); err != nil {
			return err
		}
		if in.Ack != nil {
			in.Ack.Until = until
		}
		if c.At != 0 {
			in.Closing = &c
		}
		return nil
	}, `SELECT snoozed_until, closed_by, closed_at, closing, by_hand FROM incident_detail WHERE incident = ?`, in.ID)
	if err != nil {
		return fmt.Errorf("read incident %s: %w", in.ID, err)
	}
	return nil
}
