package storage

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/logger"
)

// Where few files may be opened the engine is asked for nothing, and all goes on when there are more.
func TestNoFilesAreLeft(t *testing.T) {
	free := filesPerFlush - 1
	s, err := Prepare(t.TempDir(), Options{MemoryBytes: 64 << 20, FreeFiles: func() int { return free }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rows := []Row{{Series: SeriesOf([]Label{{Name: "__name__", Value: "m"}}), At: time.Now().UnixMilli(), Value: 1}}
	refuses := func(want error, calls map[string]func() error) {
		t.Helper()
		for name, call := range calls {
			if err := call(); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
	}
	query := func() error { _, err := s.Query(t.Context(), "m", time.Now()); return err }
	snapshot := func() error { _, err := s.Snapshot(); return err }
	add := func() error { return s.Add(rows) }
	refuses(ErrNoFiles, map[string]func() error{"start": func() error { return s.Start(0) }})
	refuses(ErrNotOpen, map[string]func() error{"add": add, "barrier": s.Barrier, "query": query, "snapshot": snapshot})
	if s.IsOpen() || s.ReadOnly() {
		t.Error("a store that is not open takes rows, or lacks disk space")
	}
	free = 1 << 16
	refuses(nil, map[string]func() error{"start": func() error { return s.Start(0) }})
	refuses(nil, map[string]func() error{"add": add, "query": query})
	free = 3
	refuses(ErrNoFiles, map[string]func() error{"add": add, "barrier": s.Barrier, "snapshot": snapshot})
	free = 1 << 16
	refuses(nil, map[string]func() error{"add": add, "barrier": s.Barrier})
	if got, err := s.Query(t.Context(), "count_over_time(m[1h])", time.Now().Add(time.Second)); err != nil || len(got) != 1 || got[0].Values[0] != 1 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestPreparedStoreThatNeverOpensIsClosed(t *testing.T) {
	s, err := Prepare(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Barrier(); !errors.Is(err, ErrClosed) {
		t.Errorf("%v, want %v", err, ErrClosed)
	}
}

// An exit of the engine leaves a trace that names the engine, as its panics do.
func TestExitOfTheEngineLeavesATrace(t *testing.T) {
	const child = "BRAMBLE_TEST_ENGINE_EXITS"
	if os.Getenv(child) != "" {
		s, err := Open(t.TempDir(), Options{MemoryBytes: 64 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		logger.Fatalf("FATAL: cannot remove %q", "a part")
	}
	c := exec.Command(os.Args[0], "-test.run=^TestExitOfTheEngineLeavesATrace$")
	c.Env = append(os.Environ(), child+"=1")
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("ended with %v, want exit status 2", err)
	}
	for _, want := range []string{"panic: ", `cannot remove "a part"`, "goroutine ", "github.com/VictoriaMetrics/VictoriaMetrics/lib/logger"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not in what it left:\n%s", want, out)
		}
	}
}
