package alerting

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"bramble/alerting/database"
)

// Migrations lift the tables of alerting in state.db: Migrations[i] from version i to i+1. A released one never changes;
// a new table or column is one more entry. Whoever opens the database applies them, after a backup. The first also
// meets the tables of collectors from before there were versions. Times are Unix milliseconds, 0 where they have not come.
var Migrations = []string{`
CREATE TABLE IF NOT EXISTS incident (
	number INTEGER PRIMARY KEY AUTOINCREMENT,
	id TEXT NOT NULL UNIQUE,
	group_key TEXT NOT NULL,
	receiver TEXT NOT NULL,
	title TEXT NOT NULL,
	severity TEXT NOT NULL,
	started_at INTEGER NOT NULL,
	opened_at INTEGER NOT NULL,
	changed_at INTEGER NOT NULL,
	resolved_at INTEGER NOT NULL DEFAULT 0,
	alerts TEXT NOT NULL,
	acked_by TEXT NOT NULL DEFAULT '',
	acked_at INTEGER NOT NULL DEFAULT 0,
	ack_comment TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX IF NOT EXISTS incident_open ON incident (group_key) WHERE resolved_at = 0;
CREATE INDEX IF NOT EXISTS incident_opened ON incident (opened_at);
CREATE TABLE IF NOT EXISTS page (
	seq INTEGER PRIMARY KEY AUTOINCREMENT,
	id TEXT NOT NULL UNIQUE,
	incident TEXT NOT NULL,
	receiver TEXT NOT NULL,
	integration TEXT NOT NULL,
	idx INTEGER NOT NULL,
	group_key TEXT NOT NULL,
	reason INTEGER NOT NULL,
	payload TEXT NOT NULL,
	created_at INTEGER NOT NULL,
	reading_at INTEGER NOT NULL,
	state TEXT NOT NULL,
	attempts INTEGER NOT NULL DEFAULT 0,
	next_at INTEGER NOT NULL,
	answer TEXT NOT NULL DEFAULT '',
	left_at INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS page_waiting ON page (seq) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS page_incident ON page (incident);
CREATE TABLE IF NOT EXISTS alert_notified (
	receiver TEXT NOT NULL,
	group_key TEXT NOT NULL,
	entry BLOB NOT NULL,
	expires_at INTEGER NOT NULL,
	PRIMARY KEY (receiver, group_key)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alert_thread (
	receiver TEXT NOT NULL,
	integration TEXT NOT NULL,
	idx INTEGER NOT NULL,
	group_key TEXT NOT NULL,
	entry BLOB NOT NULL,
	at INTEGER NOT NULL,
	PRIMARY KEY (receiver, integration, idx, group_key)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alert_silence (
	id TEXT PRIMARY KEY,
	entry BLOB NOT NULL,
	expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alert_waiting (
	seq INTEGER PRIMARY KEY,
	transition TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS alert_held (
	seq INTEGER PRIMARY KEY,
	transition TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS alert_handled (
	rule TEXT NOT NULL,
	series TEXT NOT NULL,
	fired_at INTEGER NOT NULL,
	at INTEGER NOT NULL,
	PRIMARY KEY (rule, series)
) STRICT, WITHOUT ROWID;
`, escalationSchema, linkSchema, maintenanceSchema, testSchema, regroupSchema, takeoverSchema, customerSchema}

const (
	// keepHandled outlives every replay of the collector's journal by far.
	keepHandled = 30 * 24 * time.Hour
)

// pruneEvery is how often rows that are too old to matter are dropped while a pager runs.
const pruneEvery = 24 * time.Hour

// prepare makes the tables where there are none and drops rows that are too old to matter.
func prepare(ctx context.Context, db *sql.DB) error {
	if err := create(ctx, db); err != nil {
		return fmt.Errorf("create alert tables: %w", err)
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
		{`DELETE FROM page_to WHERE page IN (SELECT p.id FROM page p JOIN incident i ON i.id = p.incident WHERE i.resolved_at > 0 AND i.resolved_at < ?)`, now.Add(-database.Keep)},
		{`DELETE FROM page WHERE incident IN (SELECT id FROM incident WHERE resolved_at > 0 AND resolved_at < ?)`, now.Add(-database.Keep)},
		{`DELETE FROM incident WHERE resolved_at > 0 AND resolved_at < ?`, now.Add(-database.Keep)},
		{`DELETE FROM page WHERE incident = '' AND state <> 'waiting' AND created_at < ?`, now.Add(-database.Keep)},
		{`DELETE FROM escalation WHERE incident NOT IN (SELECT id FROM incident) AND ? > 0`, now},
		{`DELETE FROM escalation_step WHERE state <> 'pending' AND due_at < ?`, now.Add(-keepHandled)},
		{`DELETE FROM incident_event WHERE incident NOT IN (SELECT id FROM incident) AND ? > 0`, now},
		{`DELETE FROM incident_more WHERE incident NOT IN (SELECT id FROM incident) AND ? > 0`, now},
		{`DELETE FROM incident_moved WHERE incident NOT IN (SELECT id FROM incident) AND ? > 0`, now},
		{`DELETE FROM incident_former WHERE incident NOT IN (SELECT id FROM incident) AND ? > 0`, now},
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

// create makes the tables in a database that has none of them.
func create(ctx context.Context, db *sql.DB) error {
	var there bool
	err := db.QueryRowContext(ctx, `SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = 'incident'`).Scan(&there)
	if err != nil || there {
		return err
	}
	for _, step := range Migrations {
		if _, err := db.ExecContext(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

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

// escalationSchema is idempotent. Times are Unix milliseconds, 0 where they have not come.
//
// An escalation_step is a thing to do at a time that was decided once: the pages of a step of a policy ("step"), a
// person's channel ("channel"), the end of a snooze ("wake"), or the messages to a person that were collected ("bundle").
const escalationSchema = `
CREATE TABLE IF NOT EXISTS escalation (
	incident TEXT PRIMARY KEY,
	receiver TEXT NOT NULL,
	state TEXT NOT NULL,
	run INTEGER NOT NULL,
	paged INTEGER NOT NULL DEFAULT 0,
	reading_at INTEGER NOT NULL,
	payload TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS escalation_step (
	seq INTEGER PRIMARY KEY AUTOINCREMENT,
	incident TEXT NOT NULL,
	kind TEXT NOT NULL,
	run INTEGER NOT NULL DEFAULT 0,
	round INTEGER NOT NULL DEFAULT 0,
	step INTEGER NOT NULL DEFAULT 0,
	person TEXT NOT NULL DEFAULT '',
	receiver TEXT NOT NULL DEFAULT '',
	reason INTEGER NOT NULL DEFAULT 0,
	delay INTEGER NOT NULL,
	due_at INTEGER NOT NULL,
	held INTEGER NOT NULL DEFAULT 0,
	state TEXT NOT NULL DEFAULT 'pending'
) STRICT;
CREATE INDEX IF NOT EXISTS escalation_step_pending ON escalation_step (due_at) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS escalation_step_bundle ON escalation_step (person) WHERE kind = 'bundle' AND state = 'pending';
CREATE INDEX IF NOT EXISTS incident_group ON incident (group_key, resolved_at);
CREATE INDEX IF NOT EXISTS escalation_step_incident ON escalation_step (incident);
CREATE TABLE IF NOT EXISTS page_to (
	page TEXT PRIMARY KEY,
	person TEXT NOT NULL,
	kind TEXT NOT NULL,
	bundle TEXT NOT NULL DEFAULT '',
	sent_at INTEGER NOT NULL DEFAULT 0,
	doubtful INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS page_to_sent ON page_to (person, sent_at);
CREATE INDEX IF NOT EXISTS page_to_bundle ON page_to (bundle) WHERE bundle <> '';
CREATE TABLE IF NOT EXISTS incident_event (
	seq INTEGER PRIMARY KEY AUTOINCREMENT,
	incident TEXT NOT NULL,
	at INTEGER NOT NULL,
	kind TEXT NOT NULL,
	who TEXT NOT NULL DEFAULT '',
	text TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX IF NOT EXISTS incident_event_incident ON incident_event (incident);
CREATE TABLE IF NOT EXISTS incident_more (
	incident TEXT PRIMARY KEY,
	snoozed_until INTEGER NOT NULL DEFAULT 0,
	closed_by TEXT NOT NULL DEFAULT '',
	closed_at INTEGER NOT NULL DEFAULT 0,
	closing TEXT NOT NULL DEFAULT '',
	by_hand INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS oncall_override (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	rota TEXT NOT NULL,
	person TEXT NOT NULL,
	from_at INTEGER NOT NULL,
	to_at INTEGER NOT NULL,
	set_by TEXT NOT NULL,
	ended INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS oncall_file (
	one INTEGER PRIMARY KEY CHECK (one = 1),
	text BLOB NOT NULL
) STRICT;
`
