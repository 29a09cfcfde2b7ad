package ingest

import (
	"slices"
	"sync"
	"time"

	"bramble/alerting/alert"
	"bramble/collector/journal"
	"bramble/storage"
)

// deliverAnyway is how long transitions wait for a journal that cannot be
// written. They are delivered then, for a page that is late is worse than one
// that may be doubled if the collector is killed before its journal has them.
const deliverAnyway = time.Second

// handover is the way of transitions to the pager, once each: when they are on
// disk, or when the journal fails for too long.
type handover struct {
	deliver func([]alert.Transition)

	mu      sync.Mutex
	waiting []*delivery // in the order of the journal
}

type delivery struct {
	transitions []alert.Transition
	since       time.Time
	handed      bool
}

// wait returns the func that says that the transitions are on disk.
func (h *handover) wait(ts []alert.Transition) (onDisk func()) {
	if len(ts) == 0 {
		return func() {}
	}
	d := &delivery{transitions: ts, since: time.Now()}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting = append(h.waiting, d)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.hand(d)
	}
}

// overdue delivers transitions that have waited too long and returns their number.
func (h *handover) overdue(now time.Time) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range slices.Clone(h.waiting) {
		if !d.handed && now.Sub(d.since) >= deliverAnyway {
			n += len(d.transitions)
			h.hand(d)
		}
	}
	return n
}

// hand delivers once. The caller holds mu, also while delivering, which never
// blocks: the order is kept.
func (h *handover) hand(d *delivery) {
	if d.handed {
		return
	}
	d.handed = true
	h.deliver(d.transitions)
	for len(h.waiting) > 0 && h.waiting[0].handed {
		h.waiting[0] = nil
		h.waiting = h.waiting[1:]
	}
}

// commit journals a record. Once it is on disk its report is acknowledged, its
// transitions are delivered and its rows are offered to the store; nothing of
// that waits, and none is kept from it by a panic of another. An error means
// that the journal has ended.
func (in *Ingest) commit(record []byte, ts []alert.Transition, rows *[]storage.Row, onDisk func()) error {
	deliver := in.handover.wait(ts)
	return in.journal.Append(record, func(end journal.Position) {
		if onDisk != nil {
			in.faults.guard("acknowledge", "", onDisk)
		}
		in.faults.guard("deliver", "", deliver)
		if !in.faults.guard("offer readings to the store", "", func() { in.feeder.offer(rows, end) }) {
			in.feeder.again()
		}
	})
}

// Commit journals transitions that no reading of a board has caused and then
// delivers them. It returns before they are on disk.
func (in *Ingest) Commit(ts []alert.Transition) error {
	if len(ts) == 0 {
		return nil
	}
	record, err := appendOwnRecord(nil, ownRecord{Transitions: ts})
	if err != nil {
		return err
	}
	return in.commit(record, ts, nil, nil)
}

// checkJournal delivers transitions that a journal that cannot be written would hold up.
func (in *Ingest) checkJournal(now time.Time) {
	if err := in.journal.Failing(); err != nil {
		if n := in.handover.overdue(now); n > 0 {
			in.Log.Error("alerts go out before they are journalled", "transitions", n, "err", err)
		}
	}
}
