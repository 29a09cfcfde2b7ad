package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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

// openAlone opens a database that nobody else uses, on one connection. mode is SQLite's: ro or rw.
func openAlone(path, mode string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	q := url.Values{"mode": {mode}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: abs, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// Contents are how many of each a database holds.
type Contents struct {
	Boards, Enrolled, Users, Tokens int
}

// CheckDB reads a whole copy of the database, lets SQLite check its integrity and the references between its rows,
// and counts. It changes nothing.
func CheckDB(ctx context.Context, path string) (c Contents, err error) {
	if _, err := os.Stat(path); err != nil {
		return c, fmt.Errorf("check database: %w", err)
	}
	db, err := openAlone(path, "ro")
	if err != nil {
		return c, fmt.Errorf("check database %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := checkIntegrity(ctx, db); err != nil {
		return c, fmt.Errorf("check database %s: %w", path, err)
	}
	err = db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM board), (SELECT count(*) FROM board WHERE key IS NOT NULL),
		(SELECT count(*) FROM user), (SELECT count(*) FROM api_token)`).Scan(&c.Boards, &c.Enrolled, &c.Users, &c.Tokens)
	if err != nil {
		return c, fmt.Errorf("count what database %s holds: %w", path, err)
	}
	return c, nil
}

func checkIntegrity(ctx context.Context, db *sql.DB) error {
	var verdict string
	if err := db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("integrity check: %s", verdict)
	}
	rows, err := db.QueryContext(ctx, `PRAGMA foreign_key_check`)
	if err != nil {
		return err
	}
	defer rows.Close()
	if rows.Next() {
		return errors.New("a row refers to one that is not there")
	}
	return rows.Err()
}
