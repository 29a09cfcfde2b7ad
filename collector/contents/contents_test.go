package contents

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	lost := func(want string) {
		t.Helper()
		err := Check(dir)
		e := (*LostError)(nil)
		if want == "" && err != nil || want != "" && (!errors.As(err, &e) || e.Name != want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	lost("") // nothing is recorded
	file("series/data/one", "rows")
	file("rollups/flock", "")
	file("state.db-wal", "")
	folders, err := With(dir, "series", "rollups", "journal")
	if err != nil || strings.Join(folders, " ") != "series" {
		t.Fatalf("%v, %v; want the series alone", folders, err)
	}
	if err := Write(dir, Contents{Folders: folders, Files: []string{"state.db-wal"}}); err != nil {
		t.Fatal(err)
	}
	lost("")
	file("series/data/one", "")
	lost("series")
	if err := os.RemoveAll(filepath.Join(dir, "series")); err != nil {
		t.Fatal(err)
	}
	lost("series")
	file("series/two", "rows")
	lost("")
	if err := os.Remove(filepath.Join(dir, "state.db-wal")); err != nil {
		t.Fatal(err)
	}
	lost("state.db-wal")
	if err := Write(dir, Contents{Folders: folders}); err != nil {
		t.Fatal(err)
	}
	lost("")
	whole, err := os.ReadFile(filepath.Join(dir, Name))
	if err != nil {
		t.Fatal(err)
	}
	file(Name, string(whole[:len(whole)/2]))
	lost(Name)
}
