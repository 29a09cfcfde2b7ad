package storage

import (
	"fmt"
	"time"

	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
)

// One flush is enough unless a background merge holds rows while it runs: a merge of what was imported in bulk takes
// seconds. The pause between two flushes grows from the first to the second.
const (
	maxBarrier      = time.Minute
	minBarrierPause = time.Millisecond
	maxBarrierPause = 100 * time.Millisecond
)

// Barrier returns after all rows of every [Store.Add] that returned before are on disk, files and directory
// entries synced: they survive kill -9. It returns at once when there are none. Adds wait while it runs:
// about 0.1 s on average at 20,000 rows/s, 0.3 s at most. An error means that nothing is promised; it is
// [ErrReadOnly] where the disk has no room for the rows in memory.
func (s *Store) Barrier() error {
	if err := s.gate.Enter(); err != nil {
		return err
	}
	defer s.gate.Leave()
	s.writers.Lock()
	defer s.writers.Unlock()
	if s.fresh.added.Load() == s.durable {
		return nil
	}
	return s.makeDurable()
}

// makeDurable brings all that is in memory to the disk. The caller holds writers.
func (s *Store) makeDurable() (err error) {
	added := s.fresh.added.Load()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("flush store %s: %v", s.dir, p)
		}
	}()
	start := time.Now()
	if err := s.flushToDisk(); err != nil {
		return fmt.Errorf("flush store %s: %w", s.dir, err)
	}
	s.durable = added
	s.metrics.barriers.Observe(time.Since(start).Seconds())
	return nil
}

// flushToDisk makes snapshots, the engine's only synchronous flush to disk, until nothing is in memory
// alone. It begins with DebugFlush, which waits for flushes that queries or the engine have begun: these
// hold rows that are counted nowhere and are in no snapshot. Since writers are excluded, none begins later.
func (s *Store) flushToDisk() error {
	if s.crammed() {
		return ErrReadOnly
	}
	if err := s.want(); err != nil {
		return err
	}
	s.db.DebugFlush()
	pause := minBarrierPause
	for deadline := time.Now().Add(maxBarrier); ; pause = min(2*pause, maxBarrierPause) {
		volatile := s.volatile()
		if volatile == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d rows and index entries are still in memory after %s of flushes", volatile, maxBarrier)
		}
		if err := s.db.DeleteSnapshot(s.db.MustCreateSnapshot()); err != nil {
			return err
		}
		if s.volatile() > 0 {
			<-time.After(pause)
		}
	}
}

// volatile counts the rows and index entries that a crash would lose.
func (s *Store) volatile() uint64 {
	var m vm.Metrics
	s.db.UpdateMetrics(&m)
	t := &m.TableMetrics
	return t.PendingRows + t.InmemoryRowsCount + t.IndexDBMetrics.PendingItems + t.IndexDBMetrics.InmemoryItemsCount
}
