package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bramble/pisensor/report"
)

// stalled mounts a file system whose server never answers, as an NFS server
// that has gone, until release or the end of the test.
func stalled(t *testing.T) (dir string, release func()) {
	t.Helper()
	dir = t.TempDir()
	server, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("a file system that stalls needs FUSE: ", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", server, os.Getuid(), os.Getgid())
	if err := unix.Mount("stalled", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_RDONLY, options); err != nil {
		unix.Close(server)
		t.Skip("a file system that stalls takes the right to mount one: ", err)
	}
	release = sync.OnceFunc(func() {
		if err := unix.Close(server); err != nil {
			t.Error(err)
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(release)
	return dir, release
}

// TestAStalledServerCostsOnlyItsFiles has the files of two sources on a server
// that does not answer.
func TestAStalledServerCostsOnlyItsFiles(t *testing.T) {
	dir, release := stalled(t)
	roots := piLike(t)
	roots.Etc = dir
	temp := filepath.Join(roots.Sysfs, "class/thermal/thermal_zone0/temp")
	if err := os.Remove(temp); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "temp"), temp); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	opened := openBoard(roots, slog.New(slog.NewTextHandler(&log, nil)))
	want := func(errors int) {
		t.Helper()
		var tick report.Tick
		opened.Read(&tick)
		got := seriesOf(tick.Readings)
		if line := fmt.Sprintf("pisensor_read_errors_total{source=\"thermal\"} %d\n", errors); !strings.Contains(got, line) {
			t.Errorf("no %q in\n%s", line, got)
		}
		for _, others := range []string{"pi_cpu_clock_hertz", "pi_fan_rpm", "pi_throttled"} {
			if !strings.Contains(got, others) {
				t.Errorf("no %s in\n%s", others, got)
			}
		}
	}
	begin := time.Now()
	want(1)
	first, goroutines := time.Since(begin), runtime.NumGoroutine()
	for i := range 20 {
		want(2 + i)
	}
	if later := time.Since(begin) - first; first > 5*time.Second || later > 10*first { // twenty times, were it waited for
		t.Errorf("the first tick took %v, twenty more %v", first, later)
	}
	if n := runtime.NumGoroutine(); n > goroutines+1 { // the worker that reads the next slow source
		t.Errorf("%d goroutines, before %d", n, goroutines)
	}
	if text := log.String(); strings.Count(text, "does not answer") != 2 || !strings.Contains(text, "source=thermal") || !strings.Contains(text, "source=os") {
		t.Errorf("log %q", text)
	}
	if err := opened.Close(); err != nil {
		t.Error(err)
	}
	release()
}
