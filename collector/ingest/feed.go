package ingest

import (
	"errors"
	"time"

	"bramble/storage"
)

const (
	// maxBatch rows go into the store at once.
	maxBatch = 10_000
	// storeRetry is how long a full store is left alone.
	storeRetry = time.Second
)

// fed is what travels to the store: rows, or a mark behind all rows before it.
type fed struct {
	rows    *[]storage.Row
	cut     uint64        // these rows belong to segments of the journal older than this one
	settled chan struct{} // closed when they have been fed
}

func (f fed) mark() bool { return f.cut > 0 || f.settled != nil }

// feedStore feeds the store until the channel is closed. It alone waits for
// the store's locks; while it waits, the journal holds the rows.
func (in *Ingest) feedStore() {
	var batch []storage.Row
	whole := true // everything so far is in the store
	for f := range in.feed {
		batch = f.appendTo(batch[:0])
		for len(batch) < maxBatch && !f.mark() && len(in.feed) > 0 {
			f = <-in.feed
			batch = f.appendTo(batch)
		}
		whole = whole && in.store(batch)
		if f.cut > 0 && whole {
			in.truncate(f.cut)
		}
		if f.settled != nil {
			close(f.settled)
		}
	}
}

func (f fed) appendTo(batch []storage.Row) []storage.Row {
	if f.rows == nil {
		return batch
	}
	batch = append(batch, *f.rows...)
	rowPool.Put(f.rows)
	return batch
}

// store adds rows, however long a full disk makes it wait. It gives up when the
// collector stops meanwhile, and reports false: the journal still has them.
func (in *Ingest) store(rows []storage.Row) bool {
	if len(rows) == 0 {
		return true
	}
	for waited := false; ; waited = true {
		err := in.Store.Add(rows)
		switch {
		case err == nil && waited:
			in.Log.Info("store takes readings again")
			return true
		case err == nil:
			return true
		case !errors.Is(err, storage.ErrReadOnly):
			in.Log.Error("readings not stored; the journal keeps them until the next start", "rows", len(rows), "err", err)
			in.metrics.notStored.Add(float64(len(rows)))
			return false
		case !waited:
			in.Log.Error("store takes no readings at present; the journal keeps them", "err", err)
		}
		select {
		case <-in.stopping:
			return false
		case <-time.After(storeRetry):
		}
	}
}

// truncate frees the journal before a segment, once the store has its readings
// and the pager its transitions on disk.
func (in *Ingest) truncate(before uint64) {
	err := errors.Join(in.Store.Barrier(), in.Settle())
	if err == nil {
		err = in.journal.Remove(before)
	}
	if err != nil {
		in.Log.Error("journal: not truncated", "err", err)
	}
	in.cut <- struct{}{}
}
