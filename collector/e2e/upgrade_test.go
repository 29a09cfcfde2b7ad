package e2e

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bramble/collector/registry"
	"bramble/storage/statedb"
)

// aNewerCollectorWas lets the state say that a newer collector has written it,
// as such a collector's migration does.
func aNewerCollectorWas(t *testing.T, dir, backup string) {
	t.Helper()
	db, err := registry.OpenDB(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT package, version FROM schema_version WHERE package <> 'schema'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	newer := []statedb.Schema{statedb.Tables(), statedb.Files("tomorrow", 1)}
	for rows.Next() {
		var name string
		var version int
		if err := rows.Scan(&name, &version); err != nil {
			t.Fatal(err)
		}
		newer = append(newer, statedb.Files(name, version)) // as it is
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if err := statedb.Migrate(t.Context(), db, newer, statedb.Upgrade{Collector: "99.0.0", Backup: backup}); err != nil {
		t.Fatal(err)
	}
}

// TestRollback goes back to an older collector by the words of its own refusal.
func TestRollback(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	b := s.enrol("pi-1", s.nats, "rack=r1")
	sent := invent(t, "sent", 300, every(5_000))
	if code := b.replay(t, sent).exit(t, patience); code != 0 {
		t.Fatalf("replay: exit %d", code)
	}
	s.returned(b, sent, 1)
	if code := s.stop(t, patience); code != 0 {
		t.Fatalf("stop: exit %d", code)
	}
	name := s.do("", "backup", "create") // as an upgrade begins
	aNewerCollectorWas(t, s.dir, filepath.Join(s.dir, "backups", name))
	serve := []string{"serve", "--data-dir", s.dir, "--http", s.http, "--nats", s.nats}
	a := command(t, "", "collector", serve...)
	a.refusal(t, "tomorrow is of version 1, this build knows 0", "collector 99.0.0 upgraded it", "backup "+name)
	s.try("", "board", "list").refusal(t, "this build knows 0", "collector backup restore")
	s.try("", "backup", "create").refusal(t, "this build knows 0", "collector backup restore")
	_, way, _ := strings.Cut(a.errs, "collector backup restore ")
	restored := command(t, "", "collector", append([]string{"backup", "restore"}, strings.Fields(way)...)...)
	if restored.code != 0 {
		t.Fatalf("following what it says: %s", restored.errs)
	}
	s.start()
	s.returned(b, sent, 1)
	again := invent(t, "again", 20, every(1_000))
	if code := b.replay(t, again).exit(t, patience); code != 0 {
		t.Errorf("the board does not come back: exit %d", code)
	}
}

// TestRollbackWithoutABackup has no way to name, and says so.
func TestRollbackWithoutABackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := &server{t: t, dir: dir}
	s.do("", "board", "add", "pi-1")
	aNewerCollectorWas(t, dir, "")
	command(t, "", "collector", "serve", "--data-dir", dir, "--http", "127.0.0.1:0", "--nats", "127.0.0.1:0").
		refusal(t, "upgraded it", "without a backup", "start that collector, or restore a backup from before")
}

// TestAnUpgradeNeedsItsBackup refuses to upgrade where no backup can be made,
// and leaves the data to the older collector.
func TestAnUpgradeNeedsItsBackup(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	for name := range olderReleases(t) {
		s := oldServer(t, name, k)
		config := s.args[1]
		text, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		absent := filepath.Join(t.TempDir(), "not", "mounted")
		if err := os.WriteFile(config, append(text, "backups: {target: "+absent+"}\n"...), 0o600); err != nil {
			t.Fatal(err)
		}
		serve := append([]string{"serve", "--data-dir", s.dir, "--http", s.http, "--nats", s.nats}, s.args...)
		for range 2 {
			a := command(t, "", "collector", serve...)
			if a.code != 1 || !strings.Contains(a.errs, "is its disk mounted?") || !strings.Contains(a.errs, "nothing was changed") || !strings.Contains(a.errs, "--upgrade-without-backup") {
				t.Errorf("%s: exit %d: %s", name, a.code, a.errs)
			}
		}
		s.try("", "board", "list").refusal(t, "an older collector's", "start this one once")
		s.args = append(s.args, "--upgrade-without-backup")
		s.bearer = readReleases(t)[name].Bearer
		s.start()
		if list := s.do("", "board", "list"); !strings.Contains(list, "pi-1") {
			t.Errorf("boards: %s", list)
		}
		if !strings.Contains(s.errs.String(), "no way back") {
			t.Errorf("it does not say that there is no way back: %s", s.errs)
		}
	}
}

// TestAnUpgradeTakesTheBackupThatIsThere must not fill the target when a start is
// tried again and again.
func TestAnUpgradeTakesTheBackupThatIsThere(t *testing.T) {
	t.Parallel()
	for name := range olderReleases(t) {
		s := oldServer(t, name, newSink(t))
		s.do("", "backup", "create") // the log that the kill left goes into the database
		s.do("", "backup", "create")
		s.start()
		if wanted := "a backup of just this state is there"; !strings.Contains(s.errs.String(), wanted) {
			t.Errorf("the start does not say %q: %s", wanted, s.errs)
		}
		if n := strings.Count(s.do("", "backup", "list"), " good"); n != 2 {
			t.Errorf("%d backups, want 2", n)
		}
	}
}

// TestKilledWhileUpgrading kills the first start at random moments, once in a plain run: the next one
// finds the data as it was or upgraded, and the release's answers.
func TestKilledWhileUpgrading(t *testing.T) {
	t.Parallel()
	for name, want := range olderReleases(t) {
		killed := 0
		for range often(1, 6) {
			s := oldServer(t, name, newSink(t))
			s.bearer = want.Bearer
			p := launch(t, "collector", append([]string{"serve", "--data-dir", s.dir, "--http", s.http, "--nats", s.nats}, s.args...)...)
			after(t, time.Duration(rand.IntN(400))*time.Millisecond)
			p.kill()
			if !strings.Contains(p.out.String(), "ready") {
				killed++
			}
			eventually(t, patience, func() error { // the killed one's child ends by itself
				s.process = launch(t, "collector", append([]string{"serve", "--data-dir", s.dir, "--http", s.http, "--nats", s.nats}, s.args...)...)
				_, err := s.heard(s.out, "ready ", patience)
				return err
			})
			got := want
			if err := s.keep(&got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-%s +after a kill):\n%s", name, diff)
			}
			if list := s.do("", "backup", "list"); !strings.Contains(list, " good") {
				t.Errorf("no good backup is left: %s", list)
			}
			s.kill()
		}
		if killed == 0 {
			t.Error("no start was killed before it was ready, so this tested nothing")
		}
	}
}

// TestRollbackToTheRelease upgrades a release's data, goes back to the release's
// own program with the backup that the upgrade made, and finds all as it was.
func TestRollbackToTheRelease(t *testing.T) {
	endurance(t) // it builds the release's program
	t.Parallel()
	for name, want := range olderReleases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old := programOf(t, name)
			k := newSink(t)
			s := oldServer(t, name, k)
			s.bearer = want.Bearer
			s.start()
			if code := s.stop(t, patience); code != 0 {
				t.Fatalf("stop: exit %d: %s", code, s.errs)
			}
			_, way, _ := strings.Cut(s.errs.String(), "collector backup restore ")
			way, _, _ = strings.Cut(way, `"`)
			serve := append([]string{old, "serve", "--data-dir", s.dir, "--http", s.http, "--nats", s.nats}, s.args...)
			if a := execute(t, "", serve...); a.code != 1 || !strings.Contains(a.errs, "this build knows") {
				t.Errorf("the release takes newer state: exit %d: %s", a.code, a.errs)
			}
			if a := execute(t, "", append([]string{old, "backup", "restore"}, strings.Fields(way)...)...); a.code != 0 {
				t.Fatalf("the release does not restore the backup: %s", a.errs)
			}
			s.process = spawn(t, serve...)
			s.says(t, s.out, "ready ")
			got := want
			if err := s.keep(&got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-%s +restored):\n%s", name, diff)
			}
		})
	}
}

// built keeps the releases' programs that one run of the tests has built.
var built struct {
	sync.Mutex
	byName map[string]string
}

// programOf builds the collector that a release was recorded of, where the history has it: its commit is the one that added the
// recording.
func programOf(t testing.TB, name string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if to := built.byName[name]; to != "" {
		return to
	}
	if err := build(); err != nil { // beside today's programs
		t.Fatal(err)
	}
	added := exec.CommandContext(t.Context(), "git", "log", "--diff-filter=A", "--format=%H", "-1", "--", filepath.Join(releases, name, "data.tar.gz"))
	out, err := added.Output()
	commit := strings.TrimSpace(string(out))
	if err != nil || commit == "" {
		t.Skipf("this clone's history does not say which commit recorded %s: %v", name, err)
	}
	source := t.TempDir()
	archive := exec.CommandContext(t.Context(), "sh", "-c", `git -C "$(git rev-parse --show-toplevel)" archive "$0" | tar x -C "$1"`, commit, source)
	if out, err := archive.CombinedOutput(); err != nil || len(out) > 0 {
		t.Skipf("this clone's history has no commit %s: %v %s", commit, err, out)
	}
	to := filepath.Join(programs, "collector-"+name)
	compile := exec.CommandContext(t.Context(), "go", "build", "-o", to, "./collector")
	compile.Dir = source
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("build the collector of %s: %v\n%s", commit, err, out)
	}
	if built.byName == nil {
		built.byName = map[string]string{}
	}
	built.byName[name] = to
	return to
}

// TestDataFromBeforeTheFirstSchemaIsRefused by every command in one line, and stays as it is.
func TestDataFromBeforeTheFirstSchemaIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "state.db")
	db, err := registry.OpenDB(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE registry_schema (version INTEGER NOT NULL) STRICT; INSERT INTO registry_schema VALUES (3)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"serve", "--http", "127.0.0.1:0", "--nats", "127.0.0.1:0"}, {"board", "list"}, {"backup", "create"}} {
		command(t, "", "collector", append(args, "--data-dir", dir)...).
			refusal(t, "open "+dir, "development build from before v0.1.0", "no release upgrades it", "export its readings with that build")
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the state was changed (%v)", err)
	}
}
