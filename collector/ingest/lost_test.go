package ingest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bramble/alerting/rules"
	"bramble/collector/registry"
	"bramble/storage"
)

// A state that has fewer changes than the journal has seen was cut: SQLite takes a shorter log for a whole one.
func TestAStateThatLostChangesIsDamage(t *testing.T) {
	dir, s := t.TempDir(), startNATS(t)
	c := start(t, dir, s)
	path := filepath.Join(dir, "state.db")
	copied := filepath.Join(t.TempDir(), "state.db")
	for name, suffix := range map[string]string{path: "", path + "-wal": "-wal"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Registry.AddBoard(t.Context(), "pi-1", nil); err != nil {
		t.Fatal(err)
	}
	if n := c.Registry.Changes(); n != 1 {
		t.Errorf("change %d, want 1", n)
	}
	c.publish("pi-1", hot(1, time.Now().Add(-time.Minute), 40))
	c.expectAck(1, 1)
	c.checkpointed()
	c.stop()
	reopen := func(path string) error {
		t.Helper()
		db, err := registry.OpenDB(path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		boards, err := registry.Open(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		store, err := storage.Open(filepath.Join(t.TempDir(), "series"), storage.Options{MemoryBytes: 64 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		_, err = New(Options{Dir: filepath.Join(dir, "journal"), Conn: connect(t, s), Registry: boards, Store: store, Engine: rules.NewEngine(nil)})
		return err
	}
	err := reopen(copied)
	if !errors.Is(err, registry.ErrDamaged) || !strings.Contains(err.Error(), "ends with change 0 of the registry, and the journal has seen change 1") ||
		strings.Contains(err.Error(), "damaged journal") {
		t.Errorf("with the state before the change: %v", err)
	}
	if err := reopen(path); errors.Is(err, registry.ErrDamaged) {
		t.Errorf("with the state itself: %v", err)
	}
}
