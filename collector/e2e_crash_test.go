package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// engineCrash is what the runtime writes when the engine ends the process.
const engineCrash = `panic: FATAL: cannot decode something

goroutine 7 [running]:
github.com/VictoriaMetrics/VictoriaMetrics/lib/logger.Panicf(...)
	/x/logger.go:1 +0x1
created by sync.(*WaitGroup).Go in goroutine 1
	/usr/local/go/src/sync/waitgroup.go:238 +0x73

`

// TestAStoreThatCrashesTheCollectorIsNamed damages the index of a store, of which the metadata stays sound: the engine ends
// the process. The start after that ends with the line that names the part, however often it is tried; what it says to do
// brings the collector back.
func TestAStoreThatCrashesTheCollectorIsNamed(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
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
	if _, err := os.Stat(filepath.Join(s.dir, crashFile)); err == nil {
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
	serve := []string{"serve", "--data-dir", s.dir, "--http", s.http, "--nats", s.nats}
	if a := command(t, "", "collector", serve...); a.code != 2 || !strings.Contains(a.errs, "panic: ") {
		t.Fatalf("the engine opens a damaged index: exit %d, %s", a.code, a.errs)
	}
	var a answer
	for range 2 {
		a = command(t, "", "collector", serve...)
		_, line, _ := strings.Cut(a.errs, "collector: ")
		if a.code != exitDamaged || !slices.ContainsFunc(damaged, func(part string) bool { return strings.Contains(line, part) }) {
			t.Fatalf("exit %d, %q; want %d and one of %s", a.code, a.errs, exitDamaged, damaged)
		}
	}
	_, way, ok := strings.Cut(a.errs, "collector backup restore ")
	if !ok {
		t.Fatalf("no way back: %s", a.errs)
	}
	if restored := command(t, "", "collector", append([]string{"backup", "restore"}, strings.Fields(way)...)...); restored.code != 0 {
		t.Fatalf("following what it says: %s", restored.errs)
	}
	s.start()
	s.returned(b, sent, 1)
}

// TestACrashThatNothingExplains finds no damage behind a crash of the engine and goes on; behind the second in an hour it
// says which store it is, and the start after that tries again. A crash that has another cause, or is of long ago, is told
// and no more.
func TestACrashThatNothingExplains(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	stop := func() {
		t.Helper()
		if code := s.stop(t, patience); code != 0 {
			t.Fatalf("stop: exit %d", code)
		}
	}
	path, before := filepath.Join(s.dir, crashFile), filepath.Join(s.dir, crashBefore)
	crashed := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	crashed(engineCrash)
	s.start()
	stop()
	if b, err := os.ReadFile(before); err != nil || string(b) != engineCrash {
		t.Errorf("the trace is not kept: %q, %v", b, err)
	}
	crashed(strings.Replace(engineCrash, "cannot decode something", "write: no space left on device", 1))
	s.start()
	stop()
	crashed(engineCrash)
	s.start() // the one before had another cause
	s.kill()
	s.start() // a kill is no crash
	stop()
	crashed(engineCrash)
	a := command(t, "", "collector", "serve", "--data-dir", s.dir, "--http", s.http, "--nats", s.nats)
	if a.code != exitDamaged || !strings.Contains(a.errs, filepath.Join(s.dir, "series")) || !strings.Contains(a.errs, before) || !strings.Contains(a.errs, "cannot decode something") {
		t.Errorf("exit %d, %s", a.code, a.errs)
	}
	s.start()
	stop()
	old := time.Now().Add(-2 * crashApart)
	if err := os.Chtimes(before, old, old); err != nil {
		t.Fatal(err)
	}
	crashed(engineCrash)
	s.start()
	stop()
}
