package remote_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"bramble/storage"
	"bramble/storage/remote"
	"bramble/storage/storagetest"
)

// TestRemoteQueueOnAFullDisk lets writes to the queue fail for want of room, without the guard that usually prevents it.
// Rows are refused as long as that lasts, and all that were taken arrive.
func TestRemoteQueueOnAFullDisk(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	v := storagetest.NewVanilla(t, "-dedup.minScrapeInterval=1ms")
	o := remote.Options{Dir: filepath.Join(disk, "queue"), Write: v.URL, MinFreeBytes: 1}
	r := open(t, o)
	start, taken := storagetest.AnHourAgo().Add(-40*24*time.Hour), 0
	more := func() error {
		batch := storagetest.Rows(storagetest.Temperature("b1"), start.Add(time.Duration(taken)*time.Second), 20_000)
		for i := range batch {
			batch[i].Value = rand.Float64() // does not compress
		}
		err := r.Add(batch)
		if err == nil {
			taken += len(batch)
			err = r.Barrier()
		}
		return err
	}
	var err error
	for range 100 {
		if err = more(); err != nil {
			break
		}
	}
	if !errors.Is(err, storage.ErrReadOnly) && !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("on a full disk: %v after %d rows", err, taken)
	}
	for range 10 {
		if err := r.Add(storagetest.Rows(storagetest.Temperature("b2"), start, 20_000)); err != nil && !errors.Is(err, storage.ErrReadOnly) {
			t.Errorf("error %v", err)
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "rows are taken again", func() bool { return more() == nil })
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = open(t, o) // nothing is damaged
	v.Start(t)
	r.drained(t)
	v.Show(t)
	found, err := r.Query(t.Context(), fmt.Sprintf(`count_over_time(pi_soc_temperature_celsius{board="b1"}[%ds])`, taken+1), start.Add(time.Duration(taken)*time.Second))
	if err != nil || len(found) != 1 || int(found[0].Values[0]) != taken {
		t.Errorf("%+v, %v: want %d rows", found, err, taken)
	}
}
