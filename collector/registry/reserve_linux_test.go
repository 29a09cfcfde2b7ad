package registry

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestReserveTakesWritesOnAFullDisk writes to the database where no byte is
// free, as much as pages of a bad night take.
func TestReserveTakesWritesOnAFullDisk(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=40m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	path := filepath.Join(disk, "state.db")
	db, err := OpenDB(path)
	if err != nil {
		t.Fatal(err)
	}
	r := NewReserve(path)
	t.Cleanup(func() {
		if err := errors.Join(db.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	})
	if _, err := db.Exec(`CREATE TABLE page (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT`); err != nil {
		t.Fatal(err)
	}
	if err := r.Keep(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err = nil; err == nil; {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	const pages = 3000
	for i := range pages { // 6 MB of rows, several checkpoints of SQLite's log
		if _, err := db.Exec(`INSERT INTO page (text) VALUES (?)`, string(make([]byte, 2000))); err != nil {
			t.Fatalf("page %d: %v", i, err)
		}
	}
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.QueryRow(`SELECT count(*) FROM page`).Scan(&n); err != nil || n != pages {
		t.Errorf("%d pages, %v", n, err)
	}
}
