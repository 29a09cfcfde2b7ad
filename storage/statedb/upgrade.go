package statedb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Change is a package whose version differs from this build's.
type Change struct {
	Package  string
	From, To int
}

func (c Change) String() string { return fmt.Sprintf("%s %d to %d", c.Package, c.From, c.To) }

// Plan lists the changes that an upgrade would make to a database.
type Plan struct {
	Empty   bool // there is nothing yet
	Changes []Change
}

func (p Plan) String() string {
	var all []string
	for _, c := range p.Changes {
		all = append(all, c.String())
	}
	return strings.Join(all, ", ")
}

// Upgrade is one change of a database to newer schemas.
type Upgrade struct {
	At        time.Time
	Collector string // the version that did it
	Backup    string // of the state before it, as `collector backup restore` takes it; "" = none
}

// ErrUnreleased is returned for a database that a build from before the schema's first version has
// written. No release did.
var ErrUnreleased = errors.New("state.db was written by a development build from before v0.1.0, and no release upgrades it: " +
	"export its readings with that build and import them into a new data directory")

// NewerError says that a newer build has written the database.
type NewerError struct {
	Package    string
	Has, Knows int
	Last       Upgrade // that made it so, as far as it is on record
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("the state's %s is of version %d, this build knows %d", e.Package, e.Has, e.Knows)
}

// PlanUpgrade compares a database with all schemas of this build and changes nothing. It returns a
// *NewerError where a newer build has written it.
func PlanUpgrade(ctx context.Context, db *sql.DB, schemas []Schema) (p Plan, err error) {
	has, err := versions(ctx, db)
	if err != nil {
		return p, err
	}
	p.Empty = has[tables] == 0
	for _, s := range schemas {
		switch have := has[s.Package]; {
		case have > s.Version:
			return p, newer(ctx, db, s.Package, have, s.Version)
		case have < s.Version:
			p.Changes = append(p.Changes, Change{s.Package, have, s.Version})
		}
		delete(has, s.Package)
	}
	for pkg, have := range has {
		return p, newer(ctx, db, pkg, have, 0)
	}
	return p, nil
}

func newer(ctx context.Context, db *sql.DB, pkg string, has, knows int) error {
	last, err := LastUpgrade(ctx, db)
	return errors.Join(&NewerError{pkg, has, knows, last}, err)
}

// versions reads the version of each package. A database without tables has none.
func versions(ctx context.Context, db *sql.DB) (map[string]int, error) {
	old, err := hasTable(ctx, db, "registry_schema")
	if err == nil && old {
		return nil, ErrUnreleased
	}
	has := map[string]int{}
	if err == nil {
		err = readVersions(ctx, db, has)
	}
	if err != nil {
		return nil, fmt.Errorf("read the state's schema: %w", err)
	}
	return has, nil
}

func readVersions(ctx context.Context, db *sql.DB, has map[string]int) error {
	if there, err := hasTable(ctx, db, "schema_version"); err != nil || !there {
		return err
	}
	return Each(ctx, db, func(row *sql.Rows) error {
		var pkg string
		var version int
		err := row.Scan(&pkg, &version)
		has[pkg] = version
		return err
	}, `SELECT package, version FROM schema_version`)
}

func hasTable(ctx context.Context, db *sql.DB, name string) (there bool, err error) {
	err = db.QueryRowContext(ctx, `SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = ?`, name).Scan(&there)
	return there, err
}

// LastUpgrade returns the last upgrade of a database; the zero value where none is on record.
func LastUpgrade(ctx context.Context, db *sql.DB) (u Upgrade, err error) {
	if there, err := hasTable(ctx, db, "upgrade"); err != nil || !there {
		return u, err
	}
	var at int64
	err = db.QueryRowContext(ctx, `SELECT at, collector, backup FROM upgrade ORDER BY id DESC LIMIT 1`).Scan(&at, &u.Collector, &u.Backup)
	if errors.Is(err, sql.ErrNoRows) {
		return u, nil
	}
	u.At = time.UnixMilli(at)
	return u, err
}

// Migrate brings a database to this build's schemas, all of it or nothing, and records the upgrade.
// The caller has made a backup. An empty database gets its tables without a record.
func Migrate(ctx context.Context, db *sql.DB, schemas []Schema, u Upgrade) error {
	plan, err := PlanUpgrade(ctx, db, schemas)
	if err != nil || len(plan.Changes) == 0 {
		return err
	}
	steps := map[string][]string{}
	for _, s := range schemas {
		steps[s.Package] = s.Steps
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("upgrade the state: %w", err)
	}
	defer tx.Rollback()
	for _, c := range plan.Changes {
		if err := lift(ctx, tx, c, steps[c.Package]); err != nil {
			return fmt.Errorf("upgrade the state's %s: %w", c, err)
		}
	}
	if !plan.Empty {
		if _, err := tx.ExecContext(ctx, `INSERT INTO upgrade (at, collector, backup) VALUES (?, ?, ?)`, u.At.UnixMilli(), u.Collector, u.Backup); err != nil {
			return fmt.Errorf("record the upgrade: %w", err)
		}
	}
	return tx.Commit()
}

// lift changes one package's tables and records its version.
func lift(ctx context.Context, tx *sql.Tx, c Change, steps []string) error {
	for version := c.From; version < min(c.To, len(steps)); version++ {
		if _, err := tx.ExecContext(ctx, steps[version]); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO schema_version (package, version) VALUES (?, ?) ON CONFLICT (package) DO UPDATE SET version = excluded.version`, c.Package, c.To)
	return err
}
