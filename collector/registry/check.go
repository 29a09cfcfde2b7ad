package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"bramble/storage/statedb"
)

// ErrDamaged is wrapped where the database or its write-ahead log is damaged.
var ErrDamaged = errors.New("damaged database")

// fullCheck is how long a start checks the contents of indexes, too. [CheckDB] has no such limit.
const fullCheck = time.Second

// IsDamaged reports whether an error says that a database or its log is damaged, or is no database.
func IsDamaged(err error) bool {
	var e *sqlite.Error
	return errors.Is(err, ErrDamaged) || errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_CORRUPT || e.Code()&0xff == sqlite3.SQLITE_NOTADB)
}

// examine looks for damage before SQLite may change anything.
func examine(path string) error {
	if err := CheckLog(path); err != nil {
		return err
	}
	if info, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	return checkWithin(path, fullCheck)
}

// checkWithin has SQLite check all of a database where that takes no longer than full, else all but the contents of indexes.
func checkWithin(path string, full time.Duration) error {
	db, err := openAlone(path, "ro")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), full)
	defer cancel()
	err = checkIntegrity(ctx, db, path, "integrity_check")
	if err != nil && ctx.Err() != nil && !IsDamaged(err) {
		err = checkIntegrity(context.Background(), db, path, "quick_check")
	}
	return errors.Join(err, db.Close())
}

// checkIntegrity has SQLite check the database by one of its pragmas.
func checkIntegrity(ctx context.Context, db *sql.DB, path, pragma string) error {
	var verdict string
	err := db.QueryRowContext(ctx, `PRAGMA `+pragma+`(1)`).Scan(&verdict)
	switch {
	case IsDamaged(err):
		return fmt.Errorf("%w: file %s: %s: %w", ErrDamaged, path, pragma, err)
	case err != nil:
		return fmt.Errorf("%s of %s: %w", pragma, path, err)
	case verdict != "ok":
		return fmt.Errorf("%w: file %s: %s: %s", ErrDamaged, path, pragma, verdict)
	}
	return nil
}

// Contents are how many of each a database holds.
type Contents struct {
	Boards, Enrolled, Users, Tokens int
}

// CheckDB reads a whole database, lets SQLite check its integrity and the references between its rows, and counts. It
// changes nothing, and the database may be in use.
func CheckDB(ctx context.Context, path string) (c Contents, err error) {
	if _, err := os.Stat(path); err != nil {
		return c, fmt.Errorf("check database: %w", err)
	}
	db, err := openAlone(path, "ro")
	if err != nil {
		return c, fmt.Errorf("check database %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := checkIntegrity(ctx, db, path, "integrity_check"); err != nil {
		return c, err
	}
	if err := checkReferences(ctx, db, path); err != nil {
		return c, err
	}
	err = db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM board), (SELECT count(*) FROM board WHERE key IS NOT NULL),
		(SELECT count(*) FROM user), (SELECT count(*) FROM api_token)`).Scan(&c.Boards, &c.Enrolled, &c.Users, &c.Tokens)
	if err != nil {
		return c, fmt.Errorf("count what database %s holds: %w", path, err)
	}
	return c, nil
}

func checkReferences(ctx context.Context, db *sql.DB, path string) error {
	missing := fmt.Errorf("%w: file %s: a row refers to one that is not there", ErrDamaged, path)
	err := statedb.Each(ctx, db, func(*sql.Rows) error { return missing }, `PRAGMA foreign_key_check`)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return fmt.Errorf("foreign_key_check of %s: %w", path, err)
	}
	return err
}
