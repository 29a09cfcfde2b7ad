package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// group is a control group with a memory limit, of whichever version this machine has.
type group struct {
	dir   string
	limit string // name of its file
}

// newGroup makes a group with a limit in bytes. Where that is not permitted the test is skipped.
func newGroup(t testing.TB, bytes int64) group {
	t.Helper()
	name := fmt.Sprintf("bramble-test-%d", os.Getpid())
	for _, g := range []group{
		{filepath.Join("/sys/fs/cgroup", name), "memory.max"}, {filepath.Join("/sys/fs/cgroup/memory", name), "memory.limit_in_bytes"},
	} {
		if err := os.Mkdir(g.dir, 0o755); err != nil {
			continue
		}
		t.Cleanup(func() {
			if err := os.Remove(g.dir); err != nil {
				t.Error(err)
			}
		})
		f, err := os.OpenFile(filepath.Join(g.dir, g.limit), os.O_WRONLY, 0) // the kernel made it, or there is no such controller
		if err != nil {
			continue
		}
		_, err = f.WriteString(strconv.FormatInt(bytes, 10))
		if f.Close() == nil && err == nil {
			return g
		}
	}
	t.Skip("no control group with a memory limit can be made here")
	return group{}
}

// peak returns the most that the group had in use, in bytes, and how often the kernel killed one of it.
func (g group) peak(t testing.TB) (bytes, kills int64) {
	t.Helper()
	number := func(file, key string) (n int64) {
		b, err := os.ReadFile(filepath.Join(g.dir, file))
		if err != nil {
			return 0 // of another version or kernel
		}
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, key); ok {
				if n, err = strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
					return n
				}
			}
		}
		return 0
	}
	return max(number("memory.peak", ""), number("memory.max_usage_in_bytes", "")),
		max(number("memory.events", "oom_kill "), number("memory.oom_control", "oom_kill "))
}

// TestLittleMemory runs a collector, under load and with queries over all that it has, in half the memory that it takes
// when nobody limits it: slower, not dead, and nothing is lost.
func TestLittleMemory(t *testing.T) {
	endurance(t)
	t.Parallel()
	s := &server{t: t, dir: filepath.Join(t.TempDir(), "data"), http: freeAddress(t, "127.0.0.1"), nats: freeAddress(t, "127.0.0.1")}
	s.found()
	f, keys := newFleet(t, s, 100)
	s.start()
	f.connect(keys, nil)
	work := func() time.Duration {
		t.Helper()
		stop := f.keepReporting(100 * time.Millisecond)
		after(t, 5*time.Second)
		began := time.Now()
		for range 20 {
			if _, err := s.export(`{__name__=~"pi_.*"}`, false); err != nil {
				t.Fatal(err)
			}
			if _, err := s.queryRange(`avg_over_time({__name__=~"pi_.*"}[5m])`, time.Now().Add(-25*time.Hour), time.Now(), 10*time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		took := time.Since(began)
		stop()
		f.settled(2 * patience)
		return took
	}
	free := work()
	was := int64(peakKiB(t, s.cmd.Process.Pid)) << 10
	if code := s.stop(t, patience); code != 0 {
		t.Fatalf("stop: exit %d: %s", code, s.errs)
	}

	g := newGroup(t, was/2)
	s.process = spawn(t, append([]string{"sh", "-c", `echo $$ > "$0" && exec "$@"`, filepath.Join(g.dir, "cgroup.procs")},
		program(t, "collector"), "serve", "--data-dir", s.dir, "--http", s.http, "--nats", s.nats)...)
	s.says(t, s.out, "ready ")
	limited := work()
	peak, kills := g.peak(t)
	t.Logf("%d MiB at most without a limit, 40 queries in %v; limit %d MiB: %d MiB at most, 40 queries in %v; Go's own limit %.0f MiB, caches %.0f MiB",
		was>>20, free, was>>21, peak>>20, limited, s.metric("go_gc_gomemlimit_bytes")/(1<<20), s.metric("bramble_storage_memory_limit_bytes")/(1<<20))
	if kills != 0 {
		t.Errorf("the kernel killed it %d times", kills)
	}
	f.complete(2 * patience)
	if code := s.stop(t, patience); code != 0 {
		t.Errorf("stop: exit %d: %s", code, s.errs)
	}
}

// peakKiB returns the most memory that a process had resident.
func peakKiB(t testing.TB, pid int) int {
	t.Helper()
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
