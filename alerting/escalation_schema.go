package alerting

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
