package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// engineCrash is the output of the runtime when the engine ends the process.
const engineCrash = "panic: FATAL: cannot decode something\n" + engineTrace

const engineTrace = `
goroutine 7 [running]:
github.com/VictoriaMetrics/VictoriaMetrics/lib/logger.Panicf(...)
	/x/logger.go:1 +0x1
created by sync.(*WaitGroup).Go in goroutine 1
	/usr/local/go/src/sync/waitgroup.go:238 +0x73

`

// TestAStoreThatCrashesTheCollectorIsNamed damages the index of a store, of which the metadata stays sound: the engine ends
// the process. The start after that pages without its store and says which part it is, however often it is tried; what it
// says to do brings the store back.
func TestAStoreThatCrashesTheCollectorIsNamed(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	s := alarmed(t, k)
	b := s.enrol("pi-1", s.nats)
	sent := invent(t, "sent", 100, every(5_000))
	if code := b.replay(t, sent).exit(t, patience); code != 0 {
		t.Fatalf("replay: exit %d", code)
	}
	s.returned(b, sent, 1)
	s.do("", "backup", "create")
	if code := s.stop(t, patience); code != 0 {
		t.Fatalf("stop: exit %d", code)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "crash.log")); err == nil {
		t.Error("a clean stop leaves a crash file")
	}
	parts, err := filepath.Glob(filepath.Join(s.dir, "series", "data", "indexdb", "*", "*", "items.bin"))
	if err != nil || len(parts) == 0 {
		t.Fatal(parts, err)
	}
	var damaged []string
	for _, items := range parts {
		if info, err := os.Stat(items); err != nil {
			t.Fatal(err)
		} else if info.Size() > 0 { // a small index lies in metaindex.bin alone
			overwrite(t, items, 0, strings.Repeat("x", int(info.Size())))
			damaged = append(damaged, filepath.Dir(items))
		}
	}
	serve := append([]string{"serve", "--data-dir", s.dir, "--http", s.http, "--nats", s.nats}, s.args...)
	if a := command(t, "", "collector", serve...); a.code != 2 || !strings.Contains(a.errs, "panic: ") {
		t.Fatalf("the engine opens a damaged index: exit %d, %s", a.code, a.errs)
	}
	var way string
	for i := range 2 { // however often it is tried
		s.start()
		line := s.says(t, s.errs, "the store stays shut until it is restored")
		if !slices.ContainsFunc(damaged, func(part string) bool { return strings.Contains(line, part) }) {
			t.Fatalf("%q names none of %s", line, damaged)
		}
		var ok bool
		if _, way, ok = strings.Cut(line, "collector backup restore "); !ok {
			t.Fatalf("no way back: %s", line)
		}
		way = strings.TrimSuffix(way, `"`)
		b := s.enrol(roundBoard(100+i), s.nats)
		b.replay(t, understand(t, "hot", hot))
		eventually(t, patience, func() error {
			if len(k.keys(b.name)) == 0 {
				return errors.New("no page while the store is damaged")
			}
			return nil
		})
		if code := s.stop(t, patience); code != 0 {
			t.Fatalf("stop: exit %d", code)
		}
	}
	if restored := command(t, "", "collector", append([]string{"backup", "restore"}, strings.Fields(way)...)...); restored.code != 0 {
		t.Fatalf("following what it says: %s", restored.errs)
	}
	s.start()
	s.says(t, s.errs, "the store is open")
	s.returned(b, sent, 1)
}

// TestACrashThatNothingExplains finds no damage behind a crash of the engine and opens the store; behind the second in an hour
// it waits for longer, and says which store it is and where the trace is.
func TestACrashThatNothingExplains(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	stop := func() {
		t.Helper()
		if code := s.stop(t, patience); code != 0 {
			t.Fatalf("stop: exit %d", code)
		}
	}
	before := filepath.Join(s.dir, "crash-before.log")
	stop()
	s.crashed(engineCrash)
	s.start()
	if line := s.says(t, s.errs, "the store is not opened yet"); !strings.Contains(line, "after=3s") || !strings.Contains(line, "cannot decode something") {
		t.Errorf("the start says %q", line)
	}
	s.says(t, s.errs, "no file of the store is damaged")
	s.says(t, s.errs, "the store is open")
	stop()
	if b, err := os.ReadFile(before); err != nil || string(b) != engineCrash {
		t.Errorf("the trace is not kept: %q, %v", b, err)
	}
	s.start() // a stop is no crash
	stop()
	s.crashed(engineCrash)
	s.start()
	if line := s.says(t, s.errs, "the store is not opened yet"); !strings.Contains(line, "after=10m") || !strings.Contains(line, before) || !strings.Contains(line, filepath.Join(s.dir, "series")) {
		t.Errorf("the start says %q", line)
	}
	stop()
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(before, old, old); err != nil {
		t.Fatal(err)
	}
	s.crashed(engineCrash)
	s.start()
	if line := s.says(t, s.errs, "the store is not opened yet"); !strings.Contains(line, "after=3s") {
		t.Errorf("the start says %q", line)
	}
	stop()
}

// crashed leaves the output of the runtime when the process ends by a panic.
func (s *server) crashed(text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "crash.log"), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// holdStore holds the store's lock, so that it cannot be opened, until the returned function is called.
func holdStore(t *testing.T, s *server) (release func()) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.dir, "series", "flock.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() { f.Close() })
	t.Cleanup(release)
	return release
}
