package pager

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"bramble/alerting/database"
	"bramble/storage/statedb"
)

const (
	// keepHandled outlives every replay of the collector's journal by far.
	keepHandled = 30 * 24 * time.Hour
)

// pruneEvery is how often rows that are too old to matter are dropped while a pager runs.
const pruneEvery = 24 * time.Hour

// prepare makes the tables where there are none and drops rows that are too old to matter.
func prepare(ctx context.Context, db *sql.DB) error {
	if err := statedb.Ready(ctx, db); err != nil {
		return err
	}
	return prune(ctx, db, time.Now())
}

// prune drops rows that are too old to matter at a time: incidents with their pages and events, and the memory of alerts that
// are over.
func prune(ctx context.Context, db database.Querier, now time.Time) error {
	for _, q := range []struct {
		text string
		at   time.Time
	}{
		{`DELETE FROM page WHERE incident IN (SELECT id FROM incident WHERE resolved_at > 0 AND resolved_at < ?)`, now.Add(-database.Keep)},
		{`DELETE FROM incident WHERE resolved_at > 0 AND resolved_at < ?`, now.Add(-database.Keep)},
		{`DELETE FROM page WHERE incident = '' AND state <> 'waiting' AND created_at < ?`, now.Add(-database.Keep)},
		{`DELETE FROM escalation WHERE incident NOT IN (SELECT id FROM incident) AND ? > 0`, now},
		{`DELETE FROM escalation_step WHERE state <> 'pending' AND due_at < ?`, now.Add(-keepHandled)},
		{`DELETE FROM incident_event WHERE incident NOT IN (SELECT id FROM incident) AND ? > 0`, now},
		{`DELETE FROM incident_detail WHERE incident NOT IN (SELECT id FROM incident) AND ? > 0`, now},
		{`DELETE FROM incident_moved WHERE incident NOT IN (SELECT id FROM incident) AND ? > 0`, now},
		{`DELETE FROM incident_merged WHERE incident NOT IN (SELECT id FROM incident) AND ? > 0`, now},
		{`DELETE FROM alert_handled WHERE at < ?`, now.Add(-keepHandled)},
		{`DELETE FROM alert_thread WHERE at < ?`, now.Add(-keepHandled)},
		{`DELETE FROM alert_notified WHERE expires_at < ?`, now},
		{`DELETE FROM alert_silence WHERE expires_at < ?`, now},
	} {
		if _, err := db.ExecContext(ctx, q.text, q.at.UnixMilli()); err != nil {
			return fmt.Errorf("clean alert tables: %w", err)
		}
	}
	return nil
}
