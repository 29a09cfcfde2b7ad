package ingest

import (
	"errors"
	"slices"
	"sync"
	"time"

	"bramble/collector/journal"
	"bramble/storage"
)

const (
	// maxBatch rows go into the store at once.
	maxBatch = 10_000
	// maxWaiting rows wait in memory for the store. Further ones are read from the journal again, when the store
	// takes rows.
	maxWaiting = 200_000
	// storeRetry is how long a store that takes nothing is left alone.
	storeRetry = time.Second
)

// feeder brings journalled rows into the store. Only it waits for the store: the journal is its queue, and the
// rows that it has in memory are a part of it that need not be read again.
type feeder struct {
	store   Store
	read    func(from journal.Position, f func(record []byte, end journal.Position) error) (journal.Position, error)
	rowsOf  func(dst []storage.Row, record []byte) ([]storage.Row, error)
	changed func(waiting error) // the store takes rows again, or why not
	faults  *faults

	wake     chan struct{}
	stopping <-chan struct{} // closed: rows that the store does not take at once stay in the journal

	mu      sync.Mutex
	waiting []fed
	rows    int
	offered journal.Position // behind the last record that was offered
	from    journal.Position // records behind it are offered, or read while behind
	behind  bool             // records behind from are in the journal alone
	stored  journal.Position // all before it is in the store
	records uint64           // whose rows were offered
	refused bool             // the store takes nothing at present
	then    []target
	ended   bool
}

// fed holds the rows of one record of the journal.
type fed struct {
	rows *[]storage.Row   // nil = none
	end  journal.Position // behind the record; zero where the journal has none
}

// target is called once all before a position is in the store.
type target struct {
	record uint64 // not 0: the position is behind that record, which has not been offered yet
	at     journal.Position
	call   func()
}

// offer hands over the rows of the record that ends at a position, in the order
// of the journal. It never waits.
func (f *feeder) offer(rows *[]storage.Row, end journal.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	if rows != nil {
		n = len(*rows)
		f.records++
		f.locate(end)
	}
	before := f.offered
	f.offered = end
	switch {
	case f.behind || !f.from.Before(end): // the journal is read, or was
		f.recycle(rows)
	case f.rows+n > maxWaiting:
		f.behind, f.from = true, before
		f.recycle(rows)
	default:
		f.waiting = append(f.waiting, fed{rows, end})
		f.rows += n
	}
	f.signal()
}

// offerUnjournalled hands over rows that are not in the journal, where there is
// room for them.
func (f *feeder) offerUnjournalled(rows []storage.Row) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.behind || f.rows+len(rows) > maxWaiting {
		return
	}
	f.waiting = append(f.waiting, fed{rows: &rows})
	f.rows += len(rows)
	f.signal()
}

// when has call called, from the goroutine of run, once all before a position
// is in the store.
func (f *feeder) when(at journal.Position, call func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.then = append(f.then, target{at: at, call: call})
	f.signal()
}

// locate gives targets that wait for the newest record their position, which is behind it. The caller holds mu.
func (f *feeder) locate(end journal.Position) {
	for i := range f.then {
		if t := &f.then[i]; t.record == f.records {
			t.record, t.at = 0, end
		}
	}
}

// upTo returns a channel that is closed once the rows of so many records are in the store; nil where they are, and
// where a store that takes nothing, or lags far behind, is not to be waited for.
func (f *feeder) upTo(records uint64) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.behind || f.refused || (f.records >= records && !f.stored.Before(f.offered)) {
		return nil
	}
	reached := make(chan struct{})
	t := target{at: f.offered, call: func() { close(reached) }}
	if f.records < records {
		t.record = records
	}
	f.then = append(f.then, t)
	f.signal()
	return reached
}

// rewind has everything that the journal holds behind a position read again.
func (f *feeder) rewind(from journal.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.behind, f.from = true, from
	f.signal()
}

// again has the journal read from the last stored record on, where the rows in memory are not known.
func (f *feeder) again() {
	f.mu.Lock()
	from := f.stored
	f.mu.Unlock()
	f.rewind(from)
}

// end lets run return once the rows in memory are stored, or are refused.
func (f *feeder) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.signal()
}

func (f *feeder) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *feeder) recycle(rows *[]storage.Row) {
	if rows != nil {
		rowPool.Put(rows)
	}
}

// lag returns how many rows wait in memory, and whether more are in the
// journal alone.
func (f *feeder) lag() (rows int, behind bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rows, f.behind
}

var errStopping = errors.New("the collector stops")

// run feeds the store until end is called.
func (f *feeder) run() {
	var batch []storage.Row
	for {
		f.reach()
		var end, from journal.Position
		var err error
		batch, end, from = f.next(batch[:0])
		switch {
		case len(batch) > 0 || end != (journal.Position{}):
			err = f.add(batch)
		case from != nowhere:
			end, err = f.catchUp(from, batch)
		default:
			if f.isEnded() {
				return
			}
			<-f.wake
			continue
		}
		switch {
		case errors.Is(err, errStopping):
			return
		case err != nil: // the journal cannot be read
			f.changed(err)
			f.pause()
		default:
			f.advance(end)
		}
	}
}

// pause waits before the next try and reports whether there is to be one.
func (f *feeder) pause() bool {
	select {
	case <-f.stopping:
		return false
	case <-time.After(storeRetry):
		return true
	}
}

// nowhere is no position to read from.
var nowhere = journal.Position{Offset: -1}

// next takes a batch out of memory, with the position behind it. Where nothing
// is there and the journal is to be read, it says from where.
func (f *feeder) next(batch []storage.Row) (_ []storage.Row, end, from journal.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for n < len(f.waiting) && len(batch) < maxBatch {
		w := f.waiting[n]
		if w.rows != nil {
			batch = append(batch, *w.rows...)
			f.rows -= len(*w.rows)
			f.recycle(w.rows)
		}
		if w.end != (journal.Position{}) {
			end = w.end
		}
		n++
	}
	f.waiting = slices.Delete(f.waiting, 0, n)
	if n == 0 && f.behind {
		return batch, end, f.from
	}
	return batch, end, nowhere
}

// catchUp reads the journal from a position to its present end into the store.
func (f *feeder) catchUp(from journal.Position, batch []storage.Row) (journal.Position, error) {
	end, err := f.read(from, func(record []byte, end journal.Position) (err error) {
		select {
		case <-f.stopping:
			return errStopping
		default:
		}
		before := len(batch)
		if !f.faults.guard("place a record's readings", "", func() { batch, err = f.rowsOf(batch, record) }) {
			batch = batch[:before] // it costs this record: others wait behind it
		}
		if err != nil || len(batch) < maxBatch {
			return err
		}
		if err = f.add(batch); err == nil {
			batch = batch[:0]
			f.caughtUp(end)
		}
		return err
	})
	if err == nil {
		err = f.add(batch)
	}
	if err == nil {
		f.caughtUp(end)
	}
	return end, err
}

// caughtUp notes that the journal was read up to a position.
func (f *feeder) caughtUp(end journal.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.from, f.stored = end, end
	f.behind = end.Before(f.offered)
}

// advance notes that all before a position is in the store.
func (f *feeder) advance(end journal.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stored.Before(end) {
		f.stored = end
	}
}

// reach calls the targets that are reached.
func (f *feeder) reach() {
	f.mu.Lock()
	var reached []target
	f.then = slices.DeleteFunc(f.then, func(t target) bool {
		if t.record != 0 || f.stored.Before(t.at) {
			return false
		}
		reached = append(reached, t)
		return true
	})
	f.mu.Unlock()
	for _, t := range reached {
		f.faults.guard("follow the store", "", t.call)
	}
}

func (f *feeder) isEnded() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended && len(f.waiting) == 0
}

// refuses notes that the store takes nothing, and why, or that it does again.
func (f *feeder) refuses(err error) {
	f.mu.Lock()
	f.refused = err != nil
	f.mu.Unlock()
	f.changed(err)
}

// add adds rows, however often the store refuses them. It returns errStopping
// when it still does while the collector stops: the journal has them.
func (f *feeder) add(rows []storage.Row) error {
	if len(rows) == 0 {
		return nil
	}
	for waited := false; ; waited = true {
		err := f.faults.try("store readings", "", func() error { return f.store.Add(rows) })
		if err == nil {
			if waited {
				f.refuses(nil)
			}
			return nil
		}
		if !waited {
			f.refuses(err)
		}
		if !f.pause() {
			return errStopping
		}
	}
}
