package journal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestReserveHoldsOnAFullDisk appends where no byte is free: records that cannot come again are
// committed from the reserve, and Ready says that nothing else should be.
func TestReserveHoldsOnAFullDisk(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=100m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	dir := filepath.Join(disk, "journal")
	j, _, stop := open(t, dir)
	appendAll(t, j, "before")
	if err := j.Ready(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err = nil; err == nil; {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	appendAll(t, j, "during") // and looks at the disk
	wait := func(wanted bool) {
		t.Helper()
		deadline := time.After(time.Minute) // ends a hang; claims nothing
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for (j.Ready() == nil) != wanted {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("ready: %v", j.Ready())
			}
		}
	}
	wait(false)
	if err := j.Failing(); err != nil {
		t.Errorf("the reserve cannot be written: %v", err)
	}
	large := strings.Repeat("x", 1<<20)
	for range 10 {
		appendAll(t, j, large)
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		t.Fatal(err)
	}
	wait(true)
	stop()
	_, got, _ := open(t, dir)
	if len(got) != 12 || got[0] != "before" || got[1] != "during" || got[11] != large {
		t.Errorf("%d records are there", len(got))
	}
}
