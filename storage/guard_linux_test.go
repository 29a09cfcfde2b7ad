package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestFullDiskBringsRowsDown fills the disk to the last byte while rows are in memory alone. The guard gives its reserve
// up for them: they are on the disk before the engine has to write them, and afterwards the reserve is made again.
func TestFullDiskBringsRowsDown(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=160m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	dir := filepath.Join(disk, "series")
	s, err := Open(dir, Options{MinFreeBytes: 40 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.look(); err != nil || !s.reserved.Load() {
		t.Fatalf("no reserve: %v", err)
	}
	at := time.Now().Add(-time.Hour).UnixMilli()
	var rows []Row
	for i := range 10_000 {
		series := SeriesOf([]Label{{Name: "__name__", Value: "m"}, {Name: "n", Value: fmt.Sprint(i % 100)}})
		rows = append(rows, Row{series, at + int64(i), float64(i)})
	}
	if err := s.Add(rows); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(disk, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for err = nil; err == nil; {
		_, err = f.Write(make([]byte, 4096))
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if free, err := s.freeSpace(); err != nil || free != 0 {
		t.Fatalf("%d bytes are free, %v", free, err)
	}
	if err := s.Add(rows[:1]); !errors.Is(err, ErrReadOnly) {
		t.Errorf("add: %v", err)
	}
	if err := s.Barrier(); !errors.Is(err, ErrReadOnly) {
		t.Errorf("barrier: %v", err)
	}
	if err := s.look(); err != nil {
		t.Fatal(err)
	}
	if n := s.volatile(); n != 0 || s.reserved.Load() {
		t.Errorf("%d rows and index entries are in memory alone; reserve %v", n, s.reserved.Load())
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := s.look(); err != nil || !s.reserved.Load() {
		t.Errorf("the reserve is not made again: %v", err)
	}
	for deadline := time.After(2 * time.Minute); ; { // ends a hang; claims nothing
		if err = s.Add(rows[:1]); err == nil {
			break
		}
		select {
		case <-deadline:
			t.Fatal(err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
