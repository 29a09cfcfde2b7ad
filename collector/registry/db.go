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
