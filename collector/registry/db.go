package registry

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"

	_ "modernc.org/sqlite" // the database driver
)

// idleConns is how many connections are kept open: a new one reads the whole schema. Eight pages at a time are read beside
// the pages and the loop.
const idleConns = 16

// OpenDB opens, or creates, the state database with the settings that the
// collector's promises rest on: a commit is on the disk when it returns
// (synchronous=FULL), readers do not block the writer (WAL), and a writer waits
// up to 10 s for another. The file is readable by its owner alone. The caller
// holds the data directory's lock and closes the database.
//
// A database that is damaged is not opened: the error wraps [ErrDamaged] and names
// the file, and nothing is changed.
func OpenDB(path string) (*sql.DB, error) {
	if err := examine(path); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	// SQLite gives its -wal and -shm files the mode of the database.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	q := url.Values{
		"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"},
		"_txlock": {"immediate"},
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db.SetMaxIdleConns(idleConns)
	if err := db.Ping(); err != nil {
		db.Close()
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return db, nil
}

// migrations[i] lifts the schema from version i to i+1. A released one never
// changes.
var migrations = []string{`
CREATE TABLE board (
	name        TEXT PRIMARY KEY,
	key         TEXT UNIQUE,              -- public nkey; NULL before enrolment and after a revocation
	created     INTEGER NOT NULL,         -- all times in Unix ms
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
	id      TEXT PRIMARY KEY,
	secret  BLOB NOT NULL,                -- SHA-256
	name    TEXT NOT NULL,
	role    TEXT NOT NULL,
	created INTEGER NOT NULL
) STRICT;
CREATE TABLE user (
	name     TEXT PRIMARY KEY,
	password TEXT NOT NULL,               -- argon2id, PHC string
	role     TEXT NOT NULL,
	created  INTEGER NOT NULL
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
`, `
CREATE TABLE schema_version (
	room    TEXT PRIMARY KEY,             -- all but the registry, whose own is in registry_schema
	version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE upgrade (
	id        INTEGER PRIMARY KEY,
	at        INTEGER NOT NULL,
	collector TEXT NOT NULL,              -- the version that upgraded
	backup    TEXT NOT NULL               -- of the state before, as backup restore takes it; '' = none
) STRICT;
`, `
ALTER TABLE user ADD COLUMN customer TEXT NOT NULL DEFAULT '';      -- of the role customer: whose boards it sees
ALTER TABLE api_token ADD COLUMN customer TEXT NOT NULL DEFAULT '';
`}
