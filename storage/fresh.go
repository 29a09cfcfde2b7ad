package storage

import (
	"sync"
	"sync/atomic"
	"time"
)

// The engine shows rows to queries a few seconds after they came (4.3 s on average, 10.6 s at most). A query
// that finds rows added since the last flush therefore flushes first, and all queries that come meanwhile
// share that flush. It takes 0.5 ms for 24 boards, 1 ms for 2,000 new rows and 7 ms for 20,000. To bound the
// cost under constant writes and queries, flushes keep a pause of four times their own length.
const (
	pauseFactor = 4
	// maxFlushPause bounds what a slow disk or a busy machine adds to a query.
	maxFlushPause = 100 * time.Millisecond
)

// freshness tracks whether added rows are visible to queries. The zero value is ready.
type freshness struct {
	added   atomic.Uint64 // Adds that returned
	visible atomic.Uint64 // Adds that queries see
	// indexed counts the flushes that brought new entries of the index, see [Store.compile].
	indexed atomic.Uint64

	mu      sync.Mutex // held while flushing; guards the fields below
	ended   time.Time  // of the last flush
	took    time.Duration
	entries uint64 // of the index, before the last flush
}

// ensure flushes unless all is visible already. Callers that come during a flush or the pause after it wait. entries
// returns how many entries the index was given so far.
func (f *freshness) ensure(entries func() uint64, flush func()) {
	if f.visible.Load() >= f.added.Load() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.visible.Load() >= f.added.Load() {
		return
	}
	if pause := min(pauseFactor*f.took, maxFlushPause) - time.Since(f.ended); pause > 0 {
		<-time.After(pause)
	}
	added := f.added.Load()
	start := time.Now()
	now := entries()
	flush()
	if now != f.entries {
		f.entries = now
		f.indexed.Add(1)
	}
	f.ended = time.Now()
	f.took = f.ended.Sub(start)
	f.visible.Store(added)
}
