package alerting

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
)

// maintenanceSchema is idempotent. Times are Unix milliseconds.
const maintenanceSchema = `
CREATE TABLE IF NOT EXISTS maintenance (
	number INTEGER PRIMARY KEY AUTOINCREMENT,
	matchers TEXT NOT NULL,
	starts_at INTEGER NOT NULL,
	ends_at INTEGER NOT NULL,
	return_by INTEGER NOT NULL,
	comment TEXT NOT NULL,
	created_by TEXT NOT NULL,
	created_at INTEGER NOT NULL,
	ended_by TEXT NOT NULL DEFAULT '',
	closed_at INTEGER NOT NULL DEFAULT 0,
	not_back TEXT NOT NULL DEFAULT '[]'
) STRICT;
CREATE INDEX IF NOT EXISTS maintenance_open ON maintenance (number) WHERE closed_at = 0;
CREATE TABLE IF NOT EXISTS alert_left (
	id TEXT PRIMARY KEY,
	transition TEXT NOT NULL,
	members TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alert_silence_watched (
	id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
`

func prepareMaintenances(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, `DELETE FROM maintenance WHERE closed_at > 0 AND closed_at < ?`, time.Now().Add(-keepIncidents).UnixMilli())
	if err != nil {
		return fmt.Errorf("clean maintenance table: %w", err)
	}
	return nil
}

func readMaintenances(ctx context.Context, db querier, where string, args ...any) (out []*Maintenance, err error) {
	rows, err := db.QueryContext(ctx, `SELECT number, matchers, starts_at, ends_at, return_by, comment, created_by, created_at, ended_by, closed_at, not_back
		FROM maintenance `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read maintenances: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			m                 Maintenance
			matchers, notBack string
		)
		err := rows.Scan(&m.Number, &matchers, &m.StartsAt, &m.EndsAt, &m.ReturnBy, &m.Comment, &m.By, &m.CreatedAt, &m.EndedBy, &m.ClosedAt, &notBack)
		if err != nil {
			return nil, fmt.Errorf("read maintenance: %w", err)
		}
		var texts []string
		if err := json.Unmarshal([]byte(matchers), &texts); err != nil {
			return nil, fmt.Errorf("decode matchers of maintenance %d: %w", m.Number, err)
		}
		if err := json.Unmarshal([]byte(notBack), &m.NotBack); err != nil {
			return nil, fmt.Errorf("decode boards of maintenance %d: %w", m.Number, err)
		}
		if m.Matchers, m.matchers, err = parseMatchers(texts); err != nil {
			return nil, fmt.Errorf("read maintenance %d: %w", m.Number, err)
		}
		out = append(out, &m)
	}
	return out, rows.Err()
}

func insertMaintenance(ctx context.Context, db querier, m *Maintenance) (int64, error) {
	matchers, err := json.Marshal(m.Matchers)
	if err != nil {
		return 0, fmt.Errorf("encode matchers: %w", err)
	}
	res, err := db.ExecContext(ctx, `INSERT INTO maintenance (matchers, starts_at, ends_at, return_by, comment, created_by, created_at) VALUES (?,?,?,?,?,?,?)`,
		string(matchers), m.StartsAt, m.EndsAt, m.ReturnBy, m.Comment, m.By, m.CreatedAt)
	if err != nil {
		return 0, fmt.Errorf("write maintenance: %w", err)
	}
	return res.LastInsertId()
}

// updateMaintenance writes what changes of one.
func updateMaintenance(ctx context.Context, db querier, m *Maintenance) error {
	notBack, err := json.Marshal(append([]string{}, m.NotBack...))
	if err != nil {
		return fmt.Errorf("encode boards of maintenance %d: %w", m.Number, err)
	}
	_, err = db.ExecContext(ctx, `UPDATE maintenance SET ends_at = ?, return_by = ?, ended_by = ?, closed_at = ?, not_back = ? WHERE number = ?`,
		m.EndsAt, m.ReturnBy, m.EndedBy, m.ClosedAt, string(notBack), m.Number)
	if err != nil {
		return fmt.Errorf("write maintenance %d: %w", m.Number, err)
	}
	return nil
}
