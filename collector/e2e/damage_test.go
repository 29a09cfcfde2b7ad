package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bramble/collector/registry"
)

// TestDamagedStateAndJournalNameTheWayBack damages all but the store: the line names the file, the exit status keeps
// systemd from trying again, and the command that it names brings a collector back that starts.
func TestDamagedStateAndJournalNameTheWayBack(t *testing.T) {
	t.Parallel()
	whole := newServer(t, "127.0.0.1")
	b := whole.enrol("pi-1", whole.nats)
	sent := invent(t, "sent", 100, every(5_000))
	if code := b.replay(t, sent).exit(t, patience); code != 0 {
		t.Fatalf("replay: exit %d", code)
	}
	whole.returned(b, sent, 1)
	whole.do("", "backup", "create")
	if code := whole.stop(t, patience); code != 0 {
		t.Fatalf("stop: exit %d", code)
	}
	for name, damage := range map[string]func(t *testing.T, dir string) (file string){
		"state": func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "state.db")
			overwrite(t, path, 0, "this is no database any more")
			return path
		},
		"page": func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "state.db")
			overwrite(t, path, 4096, "\x00") // of a b-tree page: it opens as if it were whole
			return path
		},
		"log": func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "state.db")
			killedWhileWriting(t, path)
			overwrite(t, path+"-wal", 1000, "\xff") // in the first of three transactions
			return path + "-wal"
		},
		"no state": func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "state.db")
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			return path
		},
		"journal": func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "journal", "0000000000000000.journal") // before all others
			if err := os.WriteFile(path, []byte("this is no journal at all"), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		},
		"record": func(t *testing.T, dir string) string {
			found, err := filepath.Glob(filepath.Join(dir, "journal", "*.journal"))
			if err != nil || len(found) == 0 {
				t.Fatal("no journal", err)
			}
			path := found[len(found)-1]
			overwrite(t, path, 50, "\xff\x00\xff") // of the newest segment's first record
			return path
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := whole.copied(t)
			file := damage(t, s.dir)
			before := contents(t, s.dir)
			for _, args := range [][]string{{"check", "state"}, {"board", "list"}} {
				if filepath.Dir(file) != s.dir {
					break // the state is whole
				}
				if a := s.try("", args...); a.code != exitDamaged || !strings.Contains(a.errs, file) {
					t.Errorf("%v: exit %d, %q", args, a.code, a.errs)
				}
			}
			s.comesBack(t, file, before)
			s.returned(b, sent, 1)
		})
	}
}

// comesBack starts a server whose data is damaged, which ends with a line that names the damage and changes no file of before, unless
// that is nil. Then it follows the line, and the server starts.
func (s *server) comesBack(t *testing.T, damage string, before map[string][sha256.Size]byte) {
	t.Helper()
	a := command(t, "", "collector", "serve", "--data-dir", s.dir, "--http", s.http, "--nats", s.nats)
	if d := cmp.Diff(before, contents(t, s.dir)); before != nil && d != "" {
		t.Errorf("files were changed: %s", d)
	}
	if a.code != exitDamaged || !strings.Contains(a.errs, damage) || strings.Count(a.errs, "collector: ") != 1 {
		t.Errorf("exit %d, %q; want %d and %s", a.code, a.errs, exitDamaged, damage)
	}
	_, way, ok := strings.Cut(a.errs, "collector backup restore ")
	if !ok {
		t.Fatalf("no way back: %s", a.errs)
	}
	restored := command(t, "", "collector", append([]string{"backup", "restore"}, strings.Fields(way)...)...)
	if restored.code != 0 {
		t.Fatalf("following the line: %s", restored.errs)
	}
	s.start()
}

// copied returns a server that is not started, on a copy of the data of one that has stopped.
func (s *server) copied(t *testing.T) *server {
	t.Helper()
	c := &server{t: t, dir: filepath.Join(t.TempDir(), "data"), http: freeAddress(t, "127.0.0.1"), nats: freeAddress(t, "127.0.0.1"), bearer: s.bearer}
	if a := execute(t, "", "cp", "-a", s.dir, c.dir); a.code != 0 {
		t.Fatal(a.errs)
	}
	return c
}

// contents are the hashes of the files that must survive a start that finds damage.
func contents(t *testing.T, dir string) map[string][sha256.Size]byte {
	t.Helper()
	all := map[string][sha256.Size]byte{}
	for _, pattern := range []string{"state.db*", "journal/*", "ca.*"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all[path] = sha256.Sum256(b)
		}
	}
	return all
}

// killedWhileWriting leaves a state as a process does that is killed after three transactions: in its log.
func killedWhileWriting(t *testing.T, path string) {
	t.Helper()
	db, err := registry.OpenDB(path)
	if err != nil {
		t.Fatal(err)
	}
	left := map[string][]byte{path: nil, path + "-wal": nil}
	for range 3 {
		if _, err := db.Exec(`INSERT INTO audit (at, actor, action, object, detail) VALUES (0, '', '', '', '')`); err != nil {
			t.Fatal(err)
		}
	}
	for name := range left {
		if left[name], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for name, b := range left {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKillsDoNotLeaveTheStateInItsLog adds a board before each kill: soon after the next start the database alone has it.
func TestKillsDoNotLeaveTheStateInItsLog(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	for n := 1; n <= 2; n++ {
		s.do("", "board", "add", "pi-"+strconv.Itoa(n))
		s.kill()
		s.start()
		eventually(t, patience, func() error {
			b, err := os.ReadFile(filepath.Join(s.dir, "state.db"))
			if err != nil {
				return err
			}
			alone := filepath.Join(t.TempDir(), "state.db")
			if err := os.WriteFile(alone, b, 0o600); err != nil {
				return err
			}
			has, err := registry.CheckDB(t.Context(), alone)
			if err == nil && has.Boards != n {
				err = fmt.Errorf("the database without its log has %d boards of %d", has.Boards, n)
			}
			return err
		})
		if said := s.do("", "check", "state"); !strings.Contains(said, "boards "+strconv.Itoa(n)) {
			t.Errorf("check state while it runs: %q", said)
		}
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

// A part of the data directory that is gone after a kill ends the start: nobody may take an unmounted disk, or a log that was deleted,
// for a collector that begins. The line names the part, and the command that it names brings a collector back that starts.
func TestPartsThatVanishedNameTheWayBack(t *testing.T) {
	t.Parallel()
	whole := newServer(t, "127.0.0.1")
	b := whole.enrol("pi-1", whole.nats)
	sent := invent(t, "sent", 100, every(5_000))
	if code := b.replay(t, sent).exit(t, patience); code != 0 {
		t.Fatalf("replay: exit %d", code)
	}
	whole.returned(b, sent, 1)
	whole.do("", "backup", "create")
	if code := whole.stop(t, patience); code != 0 { // the store's files are on disk now
		t.Fatalf("stop: exit %d", code)
	}
	recorded := func() (n int64) {
		text, err := os.ReadFile(filepath.Join(whole.dir, "contents.json"))
		var c struct{ Changes int64 }
		if err = errors.Join(err, json.Unmarshal(text, &c)); err != nil {
			t.Fatal(err)
		}
		return c.Changes
	}
	for i := 2; ; i++ { // until a kill comes before the log is brought into the database, which happens every 10 s
		before := recorded()
		whole.start()
		whole.enrol(fmt.Sprintf("pi-%d", i), whole.nats)
		eventually(t, patience, func() error { // within a second it is on record
			if recorded() <= before {
				return errors.New("the enrolment is not on record")
			}
			return nil
		})
		whole.kill()
		if log, err := os.Stat(filepath.Join(whole.dir, "state.db-wal")); err != nil || log.Size() > 0 {
			break
		}
	}
	remove := func(name string) func(*testing.T, string) string {
		return func(t *testing.T, dir string) string {
			path := filepath.Join(dir, name)
			if _, err := os.Stat(path); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	for name, damage := range map[string]func(t *testing.T, dir string) (part string){
		"log": remove("state.db-wal"), "journal": remove("journal"), "series": remove("series"), "rollups": remove("rollups"),
		"emptied log": func(t *testing.T, dir string) string {
			if err := os.Truncate(filepath.Join(dir, "state.db-wal"), 0); err != nil {
				t.Fatal(err)
			}
			return filepath.Join(dir, "state.db")
		},
		"emptied journal": func(t *testing.T, dir string) string {
			found, err := filepath.Glob(filepath.Join(dir, "journal", "*"))
			if err != nil || len(found) == 0 {
				t.Fatal("no journal", err)
			}
			for _, path := range found {
				if err := os.Truncate(path, 0); err != nil {
					t.Fatal(err)
				}
			}
			return filepath.Join(dir, "journal")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := whole.copied(t)
			part := damage(t, s.dir)
			before := contents(t, s.dir)
			if name == "emptied log" {
				before = nil // SQLite removes it
			}
			s.comesBack(t, part, before)
			s.returned(b, sent, 1)
		})
	}
	t.Run("on purpose", func(t *testing.T) {
		t.Parallel()
		s := whole.copied(t)
		remove("series")(t, s.dir)
		remove("contents.json")(t, s.dir)
		s.start()
	})
	t.Run("nothing is gone", func(t *testing.T) {
		t.Parallel()
		s := whole.copied(t)
		if a := s.try("", "board", "list"); a.code != 0 || !strings.Contains(a.out, "pi-2") {
			t.Errorf("exit %d, %q", a.code, a.out+a.errs)
		}
		s.start()
		s.returned(b, sent, 1)
		s.kill()
		s.start()
	})
}
