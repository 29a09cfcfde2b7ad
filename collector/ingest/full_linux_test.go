package ingest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/storage"
)

// TestPagesWhenTheJournalCannotBeWritten puts the journal on a disk of its own, takes the last byte of it and then its
// reserve. A crossing pages all the same, within two seconds and once: it does not page again when the journal has room,
// when the sensor sends the report again, or after a restart.
func TestPagesWhenTheJournalCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "journal")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=120m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	s := startNATS(t)
	c := start(t, dir, s)
	c.addBoard("pi-1", nil)
	from := time.Now().Add(-time.Minute)
	c.publish("pi-1", hot(1, from, 50))
	c.expectAck(1, 1)

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
	large := alert.Transition{Rule: "x", Series: "y", Labels: map[string]string{"alertname": "Large"}, State: alert.Firing,
		Annotations: map[string]string{"text": strings.Repeat("x", 1<<20)}}
	waitFor(t, "the journal can still be written", func() bool {
		large.At++
		if err := c.Commit([]alert.Transition{large}); err != nil {
			t.Fatal(err)
		}
		return c.journal.Failing() != nil
	})

	crossing := hot(2, from.Add(10*time.Second), 85)
	c.publish("pi-1", crossing)
	began := time.Now()
	last, stolen := began, time.Duration(0) // by other work of the machine
	waitFor(t, "no page", func() bool {
		now := time.Now()
		stolen += max(now.Sub(last)-2*lookEvery, 0)
		last = now
		return len(c.transitions("Hot")) > 0
	})
	if took := time.Since(began); took > 2*time.Second+500*time.Millisecond+3*stolen {
		t.Errorf("delivered after %v, of which the machine was away for %v", took, stolen)
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the journal is not ready again", func() bool { return c.journal.Ready() == nil })
	c.publish("pi-1", crossing)
	c.expectAck(1, 2)
	c.expect(`count_over_time(pi_soc_temperature_celsius{board="pi-1"}[1h])`, 2)
	c.committed()
	if got := c.transitions("Hot"); !slices.Equal(got, []string{"firing"}) {
		t.Errorf("delivered %v", got)
	}
	c.stop()
	c = start(t, dir, s)
	c.publish("pi-1", crossing)
	c.expectAck(2, 1)
	// A replay delivers the journal's transitions again; the pager knows which have left. It is still one transition.
	at := map[int64]bool{}
	c.mu.Lock()
	for _, tr := range c.delivered {
		if tr.Labels["alertname"] == "Hot" {
			at[tr.At] = true
		}
	}
	c.mu.Unlock()
	if len(at) != 1 {
		t.Errorf("transitions at %v", at)
	}
}

// TestStartDoesNotWaitForAFullStore starts over a journal whose readings a full store does not take. It is ready at
// once, takes and acknowledges readings, and stores all when there is room.
func TestStartDoesNotWaitForAFullStore(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "series")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=150m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	s := startNATS(t)
	c := start(t, dir, s)
	c.addBoard("pi-1", nil)
	from := time.Now().Add(-time.Minute)
	c.publish("pi-1", hot(1, from, 50, 51))
	c.expectAck(1, 2)
	c.stop()
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 100<<20), 0o600); err != nil { // less than storage.DefaultMinFreeBytes is left
		t.Fatal(err)
	}
	c = start(t, dir, s)
	if err := c.Store.Add([]storage.Row{{Series: tapeSeries, At: from.UnixMilli(), Value: 1}}); !errors.Is(err, storage.ErrReadOnly) {
		t.Fatalf("the store is not full: %v", err)
	}
	c.publish("pi-1", hot(3, from.Add(10*time.Second), 52))
	c.expectAck(1, 3)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	c.expect(`count_over_time(pi_soc_temperature_celsius{board="pi-1"}[1h])`, 3)
}

// TestALongJournalLeavesReadingsToTheirSensors fills the store's disk and not the journal's, and lets the journal reach its
// length. From there nothing is acknowledged, and a crossing pages. With space in the store again, the journal's readings
// are stored, it is cut, and it takes the readings that the sensor sends again.
func TestALongJournalLeavesReadingsToTheirSensors(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "series")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=150m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	s := startNATS(t)
	c := startWith(t, dir, s, Options{MaxJournal: 4 << 10})
	c.addBoard("pi-1", nil)
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 100<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	from, taken := time.Now().Add(-time.Hour), uint64(0)
	for c.Err() == nil {
		taken++
		if taken > 1000 {
			t.Fatal("a journal of 4 KiB holds 1000 reports")
		}
		c.publish("pi-1", hot(taken, from.Add(time.Duration(taken)*time.Second), 50))
		c.expectAck(1, taken)
		c.committed() // the journal has looked at its length
	}
	crossing := hot(taken+1, from.Add(time.Duration(taken+1)*time.Second), 85)
	c.publish("pi-1", crossing)
	waitFor(t, "no page", func() bool { return len(c.transitions("Hot")) > 0 })
	if len(c.acks) > 0 {
		t.Error("what is left to its sensor is acknowledged")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	c.expect(`count_over_time(pi_soc_temperature_celsius{board="pi-1"}[2h])`, float64(taken))
	waitFor(t, "the journal is not cut", func() bool {
		var err error
		if doErr := c.Do(t.Context(), func() { err = c.checkpoint() }); doErr != nil || err != nil {
			t.Fatal(doErr, err)
		}
		return c.journal.Ready() == nil
	})
	c.publish("pi-1", crossing)
	c.expectAck(1, taken+1)
	c.expect(`count_over_time(pi_soc_temperature_celsius{board="pi-1"}[2h])`, float64(taken+1))
	if got := c.transitions("Hot"); !slices.Equal(got, []string{"firing"}) {
		t.Errorf("delivered %v", got)
	}
}
