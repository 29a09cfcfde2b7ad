package storage

import (
	"sync"
	"testing"
	"time"

	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
)

// TestBarrierCoversRowsInFlight compares, after each barrier, the rows in files with the rows added, while
// queries flush. A flush takes rows out of one place before it puts them into the next, and the engine counts
// them in neither meanwhile; its own background flush does the same.
func TestBarrierCoversRowsInFlight(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var flushing sync.WaitGroup
	ds := Boards(1000)
	at := time.Now().Add(-24 * time.Hour).UnixMilli()
	added := uint64(0)
	for range 15 {
		var batch []Row
		for range 5 {
			at += 1000
			for _, d := range ds {
				batch = d.Tick(batch, at)
			}
		}
		if err := s.Add(batch); err != nil {
			t.Fatal(err)
		}
		added += uint64(len(batch))
		begun := make(chan struct{})
		flushing.Go(func() {
			close(begun)
			s.db.DebugFlush()
		})
		<-begun
		if err := s.Barrier(); err != nil {
			t.Fatal(err)
		}
		var m vm.Metrics
		s.db.UpdateMetrics(&m)
		if files := m.TableMetrics.SmallRowsCount + m.TableMetrics.BigRowsCount; files != added {
			t.Errorf("%d rows are in files after a barrier, %d were added", files, added)
		}
	}
	flushing.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
