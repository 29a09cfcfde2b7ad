package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDamagedStateAndJournalNameTheWayBack damages what is not the store: the line names the file, the exit status keeps
// systemd from trying again, and the command that it names brings a collector back that starts.
func TestDamagedStateAndJournalNameTheWayBack(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, dir string) (file string){
		"state": func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "state.db")
			overwrite(t, path, 0, "this is no database any more")
			return path
		},
		"journal": func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "journal", "0000000000000000.journal") // before all others
			if err := os.WriteFile(path, []byte("this is no journal at all"), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "127.0.0.1")
			b := s.enrol("pi-1", s.nats)
			sent := invent(t, "sent", 100, every(5_000))
			if code := b.replay(t, sent).exit(t, patience); code != 0 {
				t.Fatalf("replay: exit %d", code)
			}
			s.returned(b, sent, 1)
			serve := []string{"serve", "--data-dir", s.dir, "--http", s.http, "--nats", s.nats}
			s.do("", "backup", "create")
			if code := s.stop(t, patience); code != 0 {
				t.Fatalf("stop: exit %d", code)
			}
			file := damage(t, s.dir)
			a := command(t, "", "collector", serve...)
			if a.code != exitDamaged || !strings.Contains(a.errs, file) || strings.Count(a.errs, "collector: ") != 1 {
				t.Errorf("exit %d, %q; want %d and %s", a.code, a.errs, exitDamaged, file)
			}
			_, way, ok := strings.Cut(a.errs, "collector backup restore ")
			if !ok {
				t.Fatalf("no way back: %s", a.errs)
			}
			restored := command(t, "", "collector", append([]string{"backup", "restore"}, strings.Fields(way)...)...)
			if restored.code != 0 {
				t.Fatalf("following what it says: %s", restored.errs)
			}
			s.start()
			s.returned(b, sent, 1)
		})
	}
}

func overwrite(t *testing.T, path string, at int64, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(text), at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
