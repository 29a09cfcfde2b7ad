package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestFullDisk fills the disk that the data is on, while boards report. Nothing
// crashes, the page says so, the readings of that time wait in the boards'
// spools or the journal, and all of it is there when there is room again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 220)
	s := &server{t: t, dir: filepath.Join(disk, "data"), http: freeAddress(t, "127.0.0.1"), nats: freeAddress(t, "127.0.0.1")}
	s.found()
	s.start()
	b := s.enrol("pi-1", s.nats)
	before := invent(t, "before", 100, every(1_000))
	if code := b.replay(t, before, "--speed", "100").exit(t, patience); code != 0 {
		t.Fatalf("replay: exit %d", code)
	}
	s.returned(b, before, 100)

	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	during := invent(t, "during", 2000, every(1_000))
	p := b.replay(t, during, "--speed", "100") // 20 s
	if code, _, err := s.request(http.MethodGet, "/", nil); err != nil || code != http.StatusOK {
		t.Errorf("the page: %d, %v", code, err)
	}
	eventually(t, patience, func() error {
		if s.metric("bramble_storage_read_only") != 1 {
			return errors.New("the store does not say that it is full")
		}
		return nil
	})
	if err := os.Truncate(ballast, 160<<20); err != nil { // a little room: below the store's limit
		t.Fatal(err)
	}
	eventually(t, patience, func() error { return fullIncident(s) })
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if code := p.exit(t, 2*patience); code != 0 {
		t.Errorf("replay: exit %d: %s", code, p.errs)
	}
	want := before.readings() + during.readings()
	eventually(t, patience, func() error {
		series, err := s.export(`{board="pi-1"}`, false)
		if err != nil {
			return err
		}
		if got, _ := readingsOf(series); len(got) != want {
			return fmt.Errorf("%d readings are stored, want %d", len(got), want)
		}
		return nil
	})
	if code := s.stop(t, patience); code != 0 {
		t.Errorf("stop: exit %d: %s", code, s.errs)
	}
}

// fillUpTo writes a file that leaves so many bytes of a file system free.
func fillUpTo(t testing.TB, path, disk string, left uint64) {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(disk, &st); err != nil {
		t.Fatal(err)
	}
	free := st.Bavail * uint64(st.Bsize)
	if free < left {
		t.Fatalf("%d bytes are free, %d are to be left", free, left)
	}
	if err := os.WriteFile(path, make([]byte, free-left), 0o600); err != nil {
		t.Fatal(err)
	}
}
