package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
)

// Ephemeral says which rows a copy of the database leaves out, and why.
const Ephemeral = "open logins (table session): people log in again"

// CopyDB writes a consistent copy of the database to path, where nothing is yet, while others read and write it. It
// leaves out what is ephemeral. SQLite's page cache bounds the memory that it takes.
func CopyDB(ctx context.Context, db *sql.DB, path string) error {
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, path); err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	if err := strip(ctx, path); err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	return nil
}

// strip removes what is ephemeral, its bytes too, and leaves one file that is on disk.
func strip(ctx context.Context, path string) (err error) {
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	db, err := openAlone(path, "rw")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, statement := range []string{`PRAGMA journal_mode=DELETE`, `PRAGMA secure_delete=ON`, `PRAGMA synchronous=FULL`, `DELETE FROM session`} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// openAlone opens a database on one connection. mode is SQLite's: ro, which changes neither database nor log, or rw,
// with which nobody else may use it.
func openAlone(path, mode string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	q := url.Values{"mode": {mode}}
	if _, err := os.Stat(path + "-wal"); mode == "ro" && errors.Is(err, fs.ErrNotExist) {
		q.Set("immutable", "1") // else SQLite makes a log
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: abs, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}
