package statedb

import (
	"database/sql"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite" // the database driver
)

func openDB(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "state.db")+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_pragma=foreign_keys(1)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// anOldDB is a database of the first version, with an incident.
func anOldDB(t *testing.T) *sql.DB {
	t.Helper()
	db := openDB(t)
	if err := Migrate(t.Context(), db, []Schema{upTo(1)}, Upgrade{}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`INSERT INTO incident (number, id, group_key, receiver, title, severity, started_at, opened_at, changed_at, alerts)
		VALUES (7, 'i', 'g', 'r', 't', '', 1, 1, 1, '[]')`); err != nil {
		t.Fatal(err)
	}
	return db
}

// upTo is the schema of a build that knows some of the steps.
func upTo(version int) Schema { return Schema{tables, version, steps[:version]} }

// and is this build's schema with one more step.
func and(step string) Schema {
	return Schema{tables, len(steps) + 1, append(slices.Clone(steps), step)}
}

func wants(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v: want %q in it", err, part)
		}
	}
}

func planned(t *testing.T, db *sql.DB, schemas ...Schema) Plan {
	t.Helper()
	p, err := PlanUpgrade(t.Context(), db, schemas)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestUpgradeOfAllPackages(t *testing.T) {
	ctx, db := t.Context(), anOldDB(t)
	next := and(`ALTER TABLE incident ADD COLUMN place TEXT NOT NULL DEFAULT 'nowhere'`)
	all := []Schema{next, Files("journal", 3)}
	want := Plan{Changes: []Change{{"schema", 1, len(steps) + 1}, {"journal", 0, 3}}}
	if diff := cmp.Diff(want, planned(t, db, all...)); diff != "" {
		t.Error(diff)
	}
	made := Upgrade{time.UnixMilli(1_800_000_000_000), "1.2.3", "/mnt/nas/2027-01-15T080000.000Z"}
	if err := Migrate(ctx, db, all, made); err != nil {
		t.Fatal(err)
	}
	var place string
	if err := db.QueryRow(`SELECT place FROM incident WHERE number = 7`).Scan(&place); err != nil || place != "nowhere" {
		t.Errorf("the old incident is at %q, %v", place, err)
	}
	if p := planned(t, db, all...); p.Empty || len(p.Changes) > 0 {
		t.Errorf("after the upgrade: %+v", p)
	}
	if got, err := LastUpgrade(ctx, db); err != nil || !got.At.Equal(made.At) || got.Collector != made.Collector || got.Backup != made.Backup {
		t.Errorf("recorded %+v, %v", got, err)
	}
	// Builds from before it.
	for _, older := range [][]Schema{
		{Tables(), Files("journal", 3)},
		{next, Files("journal", 2)},
		{next}, // knows no journal
		{upTo(1), Files("journal", 3)},
	} {
		_, err := PlanUpgrade(ctx, db, older)
		var newer *NewerError
		if !errors.As(err, &newer) || newer.Last.Backup != made.Backup {
			t.Errorf("a build that knows %v: %v", older, err)
		}
		if err := Migrate(ctx, db, older, Upgrade{}); !errors.As(err, &newer) {
			t.Errorf("a build that knows %v migrates: %v", older, err)
		}
	}
	wants(t, Ready(ctx, db), "version", "this build knows")
}

// TestUpgradeOfPersonsRows: the row of a page's person goes with its page, and rows whose page is
// gone do not come along.
func TestUpgradeOfPersonsRows(t *testing.T) {
	db := anOldDB(t)
	run := func(text string) {
		t.Helper()
		if _, err := db.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	run(`INSERT INTO page (id, incident, receiver, integration, idx, group_key, reason, payload, created_at, reading_at, state, next_at)
		VALUES ('one', 'i', 'r', 'ntfy', 0, 'g', 1, '{}', 1, 1, 'bundled', 0), ('two', '', 'r', 'ntfy', 0, 'g', 1, '{}', 1, 1, 'delivered', 0);
		INSERT INTO page_to VALUES ('one', 'ada', 'page', 'two', 11, 0), ('two', 'ada', 'bundle', '', 12, 1), ('gone', 'ada', 'bundle', '', 13, 0)`)
	rows := func(want string) {
		t.Helper()
		var got string
		err := db.QueryRow(`SELECT coalesce(group_concat(page || ' ' || person || ' ' || kind || ' ' || bundle || ' ' || sent_at || ' ' || doubtful, ', '), '')
			FROM (SELECT * FROM page_to ORDER BY page)`).Scan(&got)
		if err != nil || got != want {
			t.Errorf("rows %q, %v; want %q", got, err, want)
		}
	}
	if err := Migrate(t.Context(), db, []Schema{upTo(2)}, Upgrade{At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	rows("one ada page two 11 0, two ada bundle  12 1")
	run(`DELETE FROM page WHERE id = 'two'`)
	rows("one ada page two 11 0")
	run(`BEGIN; INSERT INTO page_to (page, person, kind) VALUES ('three', 'ada', 'page');
		INSERT INTO page SELECT NULL, 'three', incident, receiver, integration, idx, group_key, reason, payload, created_at, reading_at, state, attempts, next_at, answer, left_at FROM page; COMMIT`)
	if _, err := db.Exec(`INSERT INTO page_to (page, person, kind) VALUES ('nowhere', 'ada', 'page')`); err == nil {
		t.Error("a row of no page is taken")
	}
}

// TestUpgradeOfRackTokens: a token from before has no names of its own, so it means its rack's numbers,
// and is otherwise as it was.
func TestUpgradeOfRackTokens(t *testing.T) {
	db := anOldDB(t)
	if err := Migrate(t.Context(), db, []Schema{upTo(2)}, Upgrade{At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`INSERT INTO enrol_token VALUES ('t1', x'01', NULL, '{"rack":"r1"}', 48, 7, 9)`); err != nil {
		t.Fatal(err)
	}
	if err := Migrate(t.Context(), db, []Schema{upTo(3)}, Upgrade{At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	var got string
	err := db.QueryRow(`SELECT id || ' ' || hex(secret) || ' ' || coalesce(board, '-') || ' ' || labels || ' ' || uses || ' ' || created || ' ' || expires || ' "' || names || '"' FROM enrol_token`).Scan(&got)
	if want := `t1 01 - {"rack":"r1"} 48 7 9 ""`; err != nil || got != want {
		t.Errorf("token %q, %v; want %q", got, err, want)
	}
}

// TestReadyNeverUpgrades: a database of another version is refused and stays as it is; an empty one
// gets its tables.
func TestReadyNeverUpgrades(t *testing.T) {
	ctx, db := t.Context(), openDB(t)
	for range 2 {
		if err := Ready(ctx, db); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Exec(`UPDATE schema_version SET version = 99`); err != nil {
		t.Fatal(err)
	}
	wants(t, Ready(ctx, db), "version 99", "this build knows")
}

// TestDataFromBeforeTheFirstVersionIsRefused: such a database kept its version in another table.
func TestDataFromBeforeTheFirstVersionIsRefused(t *testing.T) {
	ctx, db := t.Context(), openDB(t)
	if _, err := db.Exec(`CREATE TABLE board (name TEXT PRIMARY KEY) STRICT;
		CREATE TABLE registry_schema (version INTEGER NOT NULL) STRICT;
		INSERT INTO registry_schema VALUES (3)`); err != nil {
		t.Fatal(err)
	}
	_, planned := PlanUpgrade(ctx, db, []Schema{Tables()})
	for _, err := range []error{planned, Ready(ctx, db), Migrate(ctx, db, []Schema{Tables()}, Upgrade{})} {
		if !errors.Is(err, ErrUnreleased) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: want ErrUnreleased in one line", err)
		}
	}
}

func TestAFailedUpgradeChangesNothing(t *testing.T) {
	db := anOldDB(t)
	all := []Schema{and(`CREATE TABLE extra (x INTEGER) STRICT; ALTER TABLE nowhere ADD COLUMN x TEXT`)}
	before := planned(t, db, all...)
	err := Migrate(t.Context(), db, all, Upgrade{At: time.Now()})
	wants(t, err, "schema 1 to", "nowhere")
	if diff := cmp.Diff(before, planned(t, db, all...)); diff != "" {
		t.Error(diff)
	}
	if there, err := hasTable(t.Context(), db, "extra"); err != nil || there {
		t.Errorf("a table of the failed upgrade is there: %v, %v", there, err)
	}
}

func TestAnEmptyDatabaseIsNoUpgrade(t *testing.T) {
	ctx, db := t.Context(), openDB(t)
	all := []Schema{Tables(), Files("journal", 1)}
	if p := planned(t, db, all...); !p.Empty {
		t.Errorf("%+v", p)
	}
	for range 2 {
		if err := Migrate(ctx, db, all, Upgrade{}); err != nil {
			t.Fatal(err)
		}
	}
	if p := planned(t, db, all...); p.Empty || len(p.Changes) > 0 {
		t.Errorf("%+v", p)
	}
	if u, err := LastUpgrade(ctx, db); err != nil || u != (Upgrade{}) {
		t.Errorf("an upgrade is on record: %+v, %v", u, err)
	}
}
