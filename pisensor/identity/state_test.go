package identity

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// seeds makes the key of a directory, from several enrolments at once, and
// returns the different ones that they got.
func seeds(t *testing.T, dir string, n int) map[string]bool {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	got := map[string]bool{}
	for range n {
		all.Go(func() {
			key, err := ensureKey(dir)
			if err != nil {
				t.Error(err)
				return
			}
			seed, err := key.Seed()
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			got[string(seed)] = true
			mu.Unlock()
		})
	}
	all.Wait()
	return got
}

func TestEnrolmentsAtOnceUseOneKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	got := seeds(t, dir, 20)
	b, err := os.ReadFile(filepath.Join(dir, KeyFile))
	if err != nil || len(got) != 1 || !got[strings.TrimSpace(string(b))] {
		t.Errorf("%d keys, or not the one on disk (%v)", len(got), err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("the directory holds %v, %v", files, err)
	}
}

func TestHalfAStateDirectory(t *testing.T) {
	e := Enrolment{URL: "nats://localhost", Board: "b1", Pin: "pin"}
	write := func(dir, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("enrolment without a key", func(t *testing.T) {
		dir := t.TempDir()
		if err := e.Save(dir); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Load(dir); err == nil {
			t.Error("loaded")
		}
		seeds(t, dir, 1)
		if got, _, err := Load(dir); err != nil || got != e {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("key without an enrolment", func(t *testing.T) {
		dir := t.TempDir()
		before := seeds(t, dir, 1)
		if _, _, err := Load(dir); !errors.Is(err, ErrNotEnrolled) {
			t.Errorf("load: %v", err)
		}
		for seed := range seeds(t, dir, 1) {
			if !before[seed] {
				t.Error("another key")
			}
		}
	})
	t.Run("empty files", func(t *testing.T) {
		dir := t.TempDir()
		write(dir, KeyFile, "\n")
		write(dir, EnrolmentFile, "")
		if _, _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "enrol again") {
			t.Errorf("load: %v", err)
		}
		seeds(t, dir, 1)
		if err := e.Save(dir); err != nil {
			t.Fatal(err)
		}
		if got, _, err := Load(dir); err != nil || got != e {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("damaged key", func(t *testing.T) {
		dir := t.TempDir()
		write(dir, KeyFile, "SUAXXXX")
		if _, err := ensureKey(dir); err == nil || !strings.Contains(err.Error(), "remove it and enrol again") || strings.Contains(err.Error(), "SUAXXXX") {
			t.Errorf("%v", err)
		}
	})
}

func TestFilesAreTheDirectoryOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir()
	const daemon = 54321
	if err := os.Chown(dir, daemon, daemon); err != nil {
		t.Skipf("no way to give a directory away here: %v", err)
	}
	seeds(t, dir, 1)
	if err := (Enrolment{Board: "b1"}).Save(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{KeyFile, EnrolmentFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != daemon || owner.Gid != daemon || info.Mode() != 0o600 {
			t.Errorf("%s: owner %d:%d, mode %v", name, owner.Uid, owner.Gid, info.Mode())
		}
	}
}
