-- The tables of state.db, all packages' together: version 1 of the schema. A released version never changes: a new table,
-- column or index is a step in schema.go.
--
-- Times are Unix milliseconds, 0 where they have not come; durations are milliseconds.
-- A table whose column "key" is a BLOB holds a secret: backups keep it encrypted, apart from the other tables.

-- statedb: versions and upgrades

CREATE TABLE schema_version (
	package TEXT PRIMARY KEY,             -- "schema" is this file and its steps; all others are packages with files beside state.db
	version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE upgrade (
	id        INTEGER PRIMARY KEY,
	at        INTEGER NOT NULL,
	collector TEXT NOT NULL,              -- the version that upgraded
	backup    TEXT NOT NULL               -- of the state before, as backup restore takes it; '' = none
) STRICT;

-- collector/registry: boards, tokens, users, audit

CREATE TABLE board (
	name        TEXT PRIMARY KEY,
	key         TEXT UNIQUE,              -- public nkey; NULL before enrolment and after a revocation
	created     INTEGER NOT NULL,
	enrolled    INTEGER NOT NULL DEFAULT 0,
	key_changed INTEGER NOT NULL DEFAULT 0,
	retired     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE board_labels (
	board      TEXT NOT NULL REFERENCES board(name),
	valid_from INTEGER NOT NULL,
	labels     TEXT NOT NULL,             -- JSON object
	PRIMARY KEY (board, valid_from)
) STRICT, WITHOUT ROWID;
CREATE TABLE enrol_token (
	id      TEXT PRIMARY KEY,
	secret  BLOB NOT NULL,                -- SHA-256
	board   TEXT REFERENCES board(name),  -- NULL for a rack's token
	labels  TEXT NOT NULL,                -- JSON object
	uses    INTEGER NOT NULL,             -- how many boards it may enrol
	created INTEGER NOT NULL,
	expires INTEGER NOT NULL
) STRICT;
CREATE TABLE enrol_use (
	token TEXT NOT NULL REFERENCES enrol_token(id),
	key   TEXT NOT NULL,
	board TEXT NOT NULL REFERENCES board(name),
	at    INTEGER NOT NULL,
	PRIMARY KEY (token, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE api_token (
	id       TEXT PRIMARY KEY,
	secret   BLOB NOT NULL,               -- SHA-256
	name     TEXT NOT NULL,
	role     TEXT NOT NULL,
	created  INTEGER NOT NULL,
	customer TEXT NOT NULL DEFAULT ''     -- of the role customer: the customer whose boards it sees
) STRICT;
CREATE TABLE user (
	name     TEXT PRIMARY KEY,
	password TEXT NOT NULL,               -- argon2id, PHC string
	role     TEXT NOT NULL,
	created  INTEGER NOT NULL,
	customer TEXT NOT NULL DEFAULT ''     -- of the role customer: the customer whose boards it sees
) STRICT;
CREATE TABLE session (
	id      BLOB PRIMARY KEY,             -- SHA-256
	user    TEXT NOT NULL REFERENCES user(name) ON DELETE CASCADE,
	expires INTEGER NOT NULL
) STRICT;
CREATE TABLE audit (
	id     INTEGER PRIMARY KEY,
	at     INTEGER NOT NULL,
	actor  TEXT NOT NULL,
	action TEXT NOT NULL,
	object TEXT NOT NULL,
	detail TEXT NOT NULL
) STRICT;

-- alerting: incidents

CREATE TABLE incident (
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
CREATE INDEX incident_open ON incident (group_key) WHERE resolved_at = 0;
CREATE INDEX incident_opened ON incident (opened_at);
CREATE INDEX incident_group ON incident (group_key, resolved_at);
CREATE INDEX incident_commented ON incident (resolved_at) WHERE ack_comment <> '';
CREATE TABLE incident_detail (
	incident TEXT PRIMARY KEY,
	snoozed_until INTEGER NOT NULL DEFAULT 0,
	closed_by TEXT NOT NULL DEFAULT '',
	closed_at INTEGER NOT NULL DEFAULT 0,
	closing TEXT NOT NULL DEFAULT '',     -- the comment at the end
	by_hand INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE incident_event (
	seq INTEGER PRIMARY KEY AUTOINCREMENT,
	incident TEXT NOT NULL,
	at INTEGER NOT NULL,
	kind TEXT NOT NULL,
	who TEXT NOT NULL DEFAULT '',
	text TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX incident_event_incident ON incident_event (incident);
-- The further groups of an incident, after routes changed. The incident keeps the key that it began with: receivers know
-- it by that.
CREATE TABLE incident_moved (
	group_key TEXT PRIMARY KEY,
	incident TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX incident_moved_incident ON incident_moved (incident);
-- The incidents that an incident has alerts from: receivers that were paged for them are notified of its end.
CREATE TABLE incident_merged (
	incident TEXT NOT NULL,
	merged_from TEXT NOT NULL,
	whole INTEGER NOT NULL,               -- 1: merged with all its alerts, into a domain's failure or since routes changed; 0: it goes on without some
	at INTEGER NOT NULL,                  -- pages up to then are followed up at the end; 0: that was done
	PRIMARY KEY (incident, merged_from)
) STRICT, WITHOUT ROWID;
CREATE INDEX incident_merged_from ON incident_merged (merged_from);

-- alerting: escalation

CREATE TABLE escalation (
	incident TEXT PRIMARY KEY,
	receiver TEXT NOT NULL,
	state TEXT NOT NULL,
	run INTEGER NOT NULL,
	paged INTEGER NOT NULL DEFAULT 0,
	reading_at INTEGER NOT NULL,
	payload TEXT NOT NULL
) STRICT, WITHOUT ROWID;
-- An act at a time that was decided once: the pages of a step of a policy ("step"), a person's channel ("channel"), the
-- end of a snooze ("wake"), or the messages to a person that were collected ("bundle").
CREATE TABLE escalation_step (
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
CREATE INDEX escalation_step_pending ON escalation_step (due_at) WHERE state = 'pending';
CREATE INDEX escalation_step_bundle ON escalation_step (person) WHERE kind = 'bundle' AND state = 'pending';
CREATE INDEX escalation_step_incident ON escalation_step (incident);
CREATE TABLE oncall_override (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	rota TEXT NOT NULL,
	person TEXT NOT NULL,
	from_at INTEGER NOT NULL,
	to_at INTEGER NOT NULL,
	set_by TEXT NOT NULL,
	ended INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE oncall_file (
	one INTEGER PRIMARY KEY CHECK (one = 1),
	text BLOB NOT NULL
) STRICT;

-- alerting: pages, until a provider has taken them and afterwards

CREATE TABLE page (
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
CREATE INDEX page_waiting ON page (seq) WHERE state = 'waiting';
CREATE INDEX page_incident ON page (incident);
CREATE INDEX page_customer ON page (group_key, seq) WHERE receiver = '(customers)';
-- The person that a page is for.
CREATE TABLE page_to (
	page TEXT PRIMARY KEY,
	person TEXT NOT NULL,
	kind TEXT NOT NULL,
	bundle TEXT NOT NULL DEFAULT '',      -- the page that carries this one
	sent_at INTEGER NOT NULL DEFAULT 0,
	doubtful INTEGER NOT NULL DEFAULT 0   -- 1: whether the provider took it is not known
) STRICT, WITHOUT ROWID;
CREATE INDEX page_to_sent ON page_to (person, sent_at);
CREATE INDEX page_to_bundle ON page_to (bundle) WHERE bundle <> '';
CREATE TABLE test_page (
	number INTEGER PRIMARY KEY AUTOINCREMENT,
	receiver TEXT NOT NULL,
	at INTEGER NOT NULL,
	asked_by TEXT NOT NULL,
	scheduled_for INTEGER NOT NULL,
	after_page INTEGER NOT NULL,
	state TEXT NOT NULL,
	decided_at INTEGER NOT NULL DEFAULT 0,
	latency INTEGER NOT NULL DEFAULT 0,
	answer TEXT NOT NULL DEFAULT ''
) STRICT;
-- The key of the links in pages. Without its row, every link that was sent is void from the next start on.
CREATE TABLE alert_link_key (id INTEGER PRIMARY KEY CHECK (id = 1), key BLOB NOT NULL) STRICT;

-- alerting: the alerts that the pager has been given, Alertmanager's log of notifications and its silences

CREATE TABLE alert_notified (
	receiver TEXT NOT NULL,
	group_key TEXT NOT NULL,
	entry BLOB NOT NULL,
	expires_at INTEGER NOT NULL,
	PRIMARY KEY (receiver, group_key)
) STRICT, WITHOUT ROWID;
CREATE TABLE alert_thread (
	receiver TEXT NOT NULL,
	integration TEXT NOT NULL,
	idx INTEGER NOT NULL,
	group_key TEXT NOT NULL,
	entry BLOB NOT NULL,
	at INTEGER NOT NULL,
	PRIMARY KEY (receiver, integration, idx, group_key)
) STRICT, WITHOUT ROWID;
CREATE TABLE alert_silence (
	id TEXT PRIMARY KEY,
	entry BLOB NOT NULL,
	expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE alert_silence_watched (
	id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
CREATE TABLE alert_waiting (
	seq INTEGER PRIMARY KEY,
	transition TEXT NOT NULL
) STRICT;
CREATE TABLE alert_held (
	seq INTEGER PRIMARY KEY,
	transition TEXT NOT NULL
) STRICT;
CREATE TABLE alert_handled (
	rule TEXT NOT NULL,
	series TEXT NOT NULL,
	fired_at INTEGER NOT NULL,
	at INTEGER NOT NULL,
	PRIMARY KEY (rule, series)
) STRICT, WITHOUT ROWID;
-- The alerts that were still firing when their silence or maintenance ended.
CREATE TABLE alert_still_firing (
	id TEXT PRIMARY KEY,
	transition TEXT NOT NULL,
	members TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- alerting/maintenance: announced work

CREATE TABLE maintenance (
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
CREATE INDEX maintenance_open ON maintenance (number) WHERE closed_at = 0;

-- collector/heartbeat: things that must report in time

CREATE TABLE heartbeat (
	name TEXT PRIMARY KEY,
	board TEXT NOT NULL,
	message TEXT NOT NULL,
	sent_by TEXT NOT NULL,
	within INTEGER NOT NULL,
	created_at INTEGER NOT NULL,
	last_at INTEGER NOT NULL,
	excused INTEGER NOT NULL,
	removed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE heartbeat_alive (
	one INTEGER PRIMARY KEY CHECK (one = 1),
	at INTEGER NOT NULL
) STRICT;

-- collector/digest: the daily mail

CREATE TABLE digest (
	due INTEGER PRIMARY KEY,
	id TEXT NOT NULL,
	subject TEXT NOT NULL,
	body TEXT NOT NULL,
	html TEXT NOT NULL,
	state TEXT NOT NULL,
	attempts INTEGER NOT NULL DEFAULT 0,
	next_at INTEGER NOT NULL,
	answer TEXT NOT NULL DEFAULT '',
	sent_at INTEGER NOT NULL DEFAULT 0
) STRICT;

-- collector/customers: customers' thresholds, their alerts and the addresses that get mails about them

CREATE TABLE customer_threshold (
	customer TEXT NOT NULL,
	kind TEXT NOT NULL,
	board TEXT NOT NULL,                  -- '' = all of the customer's
	value REAL NOT NULL,
	hysteresis REAL NOT NULL,
	for_ms INTEGER NOT NULL,
	keep_ms INTEGER NOT NULL,
	set_by TEXT NOT NULL,
	set_at INTEGER NOT NULL,
	PRIMARY KEY (customer, kind, board)
) STRICT, WITHOUT ROWID;
CREATE TABLE customer_contact (
	id TEXT PRIMARY KEY,
	customer TEXT NOT NULL,
	address TEXT NOT NULL,
	added_by TEXT NOT NULL,
	added_at INTEGER NOT NULL,
	asked_at INTEGER NOT NULL,
	confirmed_at INTEGER NOT NULL DEFAULT 0,
	UNIQUE (customer, address)
) STRICT, WITHOUT ROWID;
CREATE TABLE customer_refusal (
	address BLOB PRIMARY KEY,             -- SHA-256: a person who wants no mail is not kept by name
	at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE customer_alert (
	seq INTEGER PRIMARY KEY AUTOINCREMENT,
	customer TEXT NOT NULL,
	kind TEXT NOT NULL,
	board TEXT NOT NULL,
	fired_at INTEGER NOT NULL,
	value REAL NOT NULL,
	ended_at INTEGER NOT NULL DEFAULT 0,
	notified_fired INTEGER NOT NULL DEFAULT 0, -- when a mail about it was journalled; -1 = nobody was to be notified
	notified_ended INTEGER NOT NULL DEFAULT 0,
	UNIQUE (customer, kind, board, fired_at)
) STRICT;
CREATE INDEX customer_alert_pending ON customer_alert (customer) WHERE notified_fired = 0 OR ended_at > 0 AND notified_ended = 0;
CREATE TABLE customer_act (
	customer TEXT NOT NULL,               -- or the hash of an address
	what TEXT NOT NULL,
	at INTEGER NOT NULL
) STRICT;
CREATE INDEX customer_act_at ON customer_act (customer, what, at);
CREATE TABLE customer_key (id INTEGER PRIMARY KEY CHECK (id = 1), key BLOB NOT NULL) STRICT;
