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
	"slices"
	"strings"

	"bramble/storage/statedb"
)

// Ephemeral says which rows a copy of the database leaves out, and why.
const Ephemeral = "open logins (table session): people log in again"

// Keys are the keys that the database signs with, by table. Each is the one row of a table whose column key is a BLOB.
type Keys map[string][]byte

// CopyDB writes a consistent copy of the database to path, where nothing is yet, while others read and write it. It
// leaves out ephemeral rows and the keys, and returns the keys. The file holds the keys until it returns, so path must
// be in a directory that may hold them. SQLite's page cache bounds the memory that it takes.
func CopyDB(ctx context.Context, db *sql.DB, path string) (Keys, error) {
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, path); err != nil {
		return nil, fmt.Errorf("copy database: %w", err)
	}
	keys, err := strip(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("copy database: %w", err)
	}
	return keys, nil
}

// strip removes ephemeral rows and the keys, their bytes too, and leaves one file that is on disk.
func strip(ctx context.Context, path string) (keys Keys, err error) {
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, err
	}
	db, err := openAlone(path, "rw")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if keys, err = readKeys(ctx, db); err != nil {
		return nil, err
	}
	statements := []string{`PRAGMA journal_mode=DELETE`, `PRAGMA secure_delete=ON`, `PRAGMA synchronous=FULL`, `DELETE FROM session`}
	for table := range keys {
		statements = append(statements, `DELETE FROM `+quoted(table))
	}
	for _, statement := range statements {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func readKeys(ctx context.Context, db *sql.DB) (Keys, error) {
	tables, err := keyTables(ctx, db)
	if err != nil {
		return nil, err
	}
	keys := Keys{}
	for _, table := range tables {
		var key []byte
		err := db.QueryRowContext(ctx, `SELECT key FROM `+quoted(table)).Scan(&key)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, err
		}
		keys[table] = key
	}
	return keys, nil
}

// keyTables are the tables that hold a key.
func keyTables(ctx context.Context, db *sql.DB) (tables []string, err error) {
	return statedb.All(ctx, db, statedb.Column[string],
		`SELECT t.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c WHERE t.type = 'table' AND c.name = 'key' AND c.type = 'BLOB'`)
}

// PutKeys puts keys back into a copy of the database that nobody else uses.
func PutKeys(ctx context.Context, path string, keys Keys) (err error) {
	db, err := openAlone(path, "rw")
	if err != nil {
		return fmt.Errorf("put keys into database %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tables, err := keyTables(ctx, db)
	if err != nil {
		return fmt.Errorf("put keys into database %s: %w", path, err)
	}
	for table, key := range keys {
		if !slices.Contains(tables, table) {
			return fmt.Errorf("put keys into database %s: it has no table %q for one", path, table)
		}
		if _, err := db.ExecContext(ctx, `INSERT INTO `+quoted(table)+` (id, key) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET key = excluded.key`, key); err != nil {
			return fmt.Errorf("put the key of %s into database %s: %w", table, path, err)
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
