// Package statedb owns the layout of state.db, the state database of a collector: the tables of all
// packages as one schema, the steps that upgrade them, and the record of versions. It also records
// the versions of files beside the database (journal, checkpoint, series), which their packages
// define.
//
// It guarantees that an upgrade is applied as a whole or not at all, and is on record with the
// backup before it. It refuses data of a newer build, and data from before the schema's first
// version. It makes no backup: the caller of [Migrate] has done so.
package statedb

import (
	"context"
	"database/sql"
	_ "embed" // schema.sql
	"fmt"
)

//go:embed schema.sql
var schema string

// steps upgrade the tables: steps[i] from version i to i+1. A released one never changes: a new
// table, column or index is one more entry.
var steps = []string{
	schema,
	// The row of a page's person goes with its page. Pages that carry others belong to no incident,
	// and their rows stayed behind when the pages were pruned. Deferred, because a page and its row
	// are written in either order.
	`
CREATE TABLE page_to_next (
	page TEXT PRIMARY KEY REFERENCES page(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
	person TEXT NOT NULL,
	kind TEXT NOT NULL,
	bundle TEXT NOT NULL DEFAULT '',
	sent_at INTEGER NOT NULL DEFAULT 0,
	doubtful INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
INSERT INTO page_to_next (page, person, kind, bundle, sent_at, doubtful)
	SELECT page, person, kind, bundle, sent_at, doubtful FROM page_to WHERE page IN (SELECT id FROM page);
DROP TABLE page_to;
ALTER TABLE page_to_next RENAME TO page_to;
CREATE INDEX page_to_sent ON page_to (person, sent_at);
CREATE INDEX page_to_bundle ON page_to (bundle) WHERE bundle <> '';
`,
	// A rack's token has names of its own; one from before has its rack's numbers.
	`
ALTER TABLE enrol_token ADD COLUMN names TEXT NOT NULL DEFAULT '';
`,
}

// Schema is the layout of one package's data in the data directory, as this build writes it. A
// build reads every older version and no newer one.
type Schema struct {
	Package string
	// Version counts from 1; 0 means that there is no data yet.
	Version int
	// Steps upgrade tables in state.db: Steps[i] from version i to i+1. A package that keeps files
	// alone has none, and reads old files as they are.
	Steps []string
}

// tables is the name under which the version of state.db's tables is recorded.
const tables = "schema"

// Tables is the schema of state.db itself: all packages' tables, and the record of versions.
func Tables() Schema { return Schema{tables, len(steps), steps} }

// Files is the schema of a package that keeps files beside state.db.
func Files(pkg string, version int) Schema { return Schema{Package: pkg, Version: version} }

// Ready makes the tables in a database that has none, and refuses those of another version: only a
// start of the collector upgrades, because it makes a backup first.
func Ready(ctx context.Context, db *sql.DB) error {
	has, err := versions(ctx, db)
	if err != nil {
		return err
	}
	switch have, own := has[tables], Tables(); {
	case have == 0:
		return Migrate(ctx, db, []Schema{own}, Upgrade{})
	case have > own.Version:
		return newer(ctx, db, tables, have, own.Version)
	case have < own.Version:
		return fmt.Errorf("the state's tables are of version %d, this build's are %d: start the collector, which makes a backup and upgrades them", have, own.Version)
	}
	return nil
}
