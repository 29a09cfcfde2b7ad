package durable

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "one")
	has := func(want string) {
		t.Helper()
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%q, %v; want %q", b, err, want)
		}
		if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
			t.Errorf("%v beside it, %v", names, err)
		}
	}
	text := func(s string) func(*os.File) error {
		return func(f *os.File) error { _, err := f.WriteString(s); return err }
	}
	for _, s := range []string{"old", "new"} {
		if err := Replace(path, text(s)); err != nil {
			t.Fatal(err)
		}
		has(s)
	}
	full := errors.New("no space left")
	err := Replace(path, func(f *os.File) error { return errors.Join(text("a piece")(f), full) })
	if !errors.Is(err, full) {
		t.Errorf("%v, want %v", err, full)
	}
	has("new")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := Replace(filepath.Join(dir, "absent", "one"), text("x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a directory that is missing: %v", err)
	}
}
