package registry

import (
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// anOldDB is a database as a build made it that knew the first version of the registry's tables and no other
// package's.
func anOldDB(t *testing.T) *sql.DB {
	t.Helper()
	db, err := OpenDB(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.Exec(migrations[0] + `
		CREATE TABLE registry_schema (version INTEGER NOT NULL) STRICT;
		INSERT INTO registry_schema VALUES (1);
		INSERT INTO board (name, created) VALUES ('b1', 1);
		CREATE TABLE incident (number INTEGER PRIMARY KEY) STRICT;
		INSERT INTO incident VALUES (7);`); err != nil {
		t.Fatal(err)
	}
	return db
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
	pager := Tables("alerting", []string{
		`CREATE TABLE IF NOT EXISTS incident (number INTEGER PRIMARY KEY) STRICT`,
		`ALTER TABLE incident ADD COLUMN title TEXT NOT NULL DEFAULT 'untitled'`,
	})
	all := []Schema{Own(), pager, Files("journal", 3)}
	want := Plan{Changes: []Change{{"registry", 1, Own().Version}, {"alerting", 0, 2}, {"journal", 0, 3}}}
	if diff := cmp.Diff(want, planned(t, db, all...)); diff != "" {
		t.Error(diff)
	}
	if _, err := Open(ctx, db); err == nil {
		t.Error("an old registry was opened without an upgrade")
	} else {
		wants(t, err, "version 1", "start the collector")
	}
	made := Upgrade{time.UnixMilli(1_800_000_000_000), "1.2.3", "/mnt/nas/2027-01-15T080000.000Z"}
	if err := Migrate(ctx, db, all, made); err != nil {
		t.Fatal(err)
	}
	var title string
	if err := db.QueryRow(`SELECT title FROM incident WHERE number = 7`).Scan(&title); err != nil || title != "untitled" {
		t.Errorf("the old incident is %q, %v", title, err)
	}
	r, err := Open(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Board("b1"); !ok {
		t.Error("the old board is gone")
	}
	if p := planned(t, db, all...); p.Empty || len(p.Changes) > 0 {
		t.Errorf("after the upgrade: %+v", p)
	}
	if got, err := LastUpgrade(ctx, db); err != nil || !got.At.Equal(made.At) || got.Collector != made.Collector || got.Backup != made.Backup {
		t.Errorf("recorded %+v, %v", got, err)
	}
	// Builds from before it.
	for _, older := range [][]Schema{
		{Own(), Tables("alerting", pager.Steps[:1]), Files("journal", 3)},
		{Own(), pager, Files("journal", 2)},
		{Own(), pager}, // knows no journal
		{Tables("registry", migrations[:1]), pager, Files("journal", 3)},
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
}

func TestAFailedUpgradeChangesNothing(t *testing.T) {
	db := anOldDB(t)
	all := []Schema{Own(), Tables("alerting", []string{`CREATE TABLE extra (x INTEGER) STRICT`, `ALTER TABLE nowhere ADD COLUMN x TEXT`})}
	before := planned(t, db, all...)
	err := Migrate(t.Context(), db, all, Upgrade{At: time.Now()})
	wants(t, err, "alerting 0 to 2", "nowhere")
	if diff := cmp.Diff(before, planned(t, db, all...)); diff != "" {
		t.Error(diff)
	}
	if there, err := hasTable(t.Context(), db, "extra"); err != nil || there {
		t.Errorf("a table of the failed upgrade is there: %v, %v", there, err)
	}
}

func TestAnEmptyDatabaseIsNoUpgrade(t *testing.T) {
	ctx := t.Context()
	db, err := OpenDB(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	all := []Schema{Own(), Files("journal", 1)}
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
