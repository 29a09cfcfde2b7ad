package ingest

import (
	"errors"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"bramble/alerting/alert"
	"bramble/collector/journal"
	"bramble/collector/presence"
	"bramble/storage"
)

// errFault is the answer to a caller whose call met a panic.
var errFault = errors.New("a fault in the collector: see its log")

// faults counts and logs panics. It is safe for concurrent use.
type faults struct {
	count prometheus.Counter
	log   *slog.Logger
	lines rate.Sometimes // a board may cause one again and again
}

func newFaults(count prometheus.Counter, log *slog.Logger) *faults {
	return &faults{count: count, log: log, lines: rate.Sometimes{First: 10, Interval: time.Minute}}
}

// guard calls f and reports whether it came to its end. board is the one whose bytes or events f handles, "" for none.
func (s *faults) guard(where, board string, f func()) (ended bool) {
	defer func() {
		if v := recover(); v != nil {
			s.count.Inc()
			s.lines.Do(func() {
				s.log.Error("a fault in the collector has cost a message; please report it", "where", where, "board", board, "panic", v, "stack", string(debug.Stack()))
			})
		}
	}()
	f()
	return true
}

// try calls f and returns its error, errFault after a panic.
func (s *faults) try(where, board string, f func() error) error {
	err := errFault
	s.guard(where, board, func() { err = f() })
	return err
}

// guard runs a step of the loop for a board, "" for all of them. A panic ends that step alone; its half changed state is
// repaired. An error means that the journal has ended.
func (in *Ingest) guard(where, board string, f func() error) (err error) {
	if !in.faults.guard(where, board, func() { err = f() }) {
		in.faults.guard("repair after a fault", board, func() { err = in.repair(board) })
	}
	return err
}

// repair journals the missing records after a fault in the loop: those of readings that were shown, which queries wait for,
// and the transitions that no record holds, since the rules will not decide them again. Transitions that were delivered
// before page nobody twice.
func (in *Ingest) repair(board string) error {
	ts := slices.Concat(in.tick.transitions, in.Engine.Last(board))
	in.tick.transitions = nil
	for range in.shown.Load() - in.recorded {
		if err := in.commitNothing(); err != nil {
			return err
		}
	}
	return in.Commit(ts)
}

// commitNothing journals a record without rows, in place of one that was not completed.
func (in *Ingest) commitNothing() error {
	record, err := appendOwnRecord(nil, ownRecord{})
	if err != nil {
		return err
	}
	in.recorded++
	return in.commit(record, nil, new([]storage.Row), nil)
}

// rebuildFleet makes the state of the boards' reports anew, as a start does: each board has a minute to report.
func (in *Ingest) rebuildFleet() {
	before := in.presence.fleet
	in.presence.fleet = presence.New()
	for name, b := range in.boards {
		state, last := before.State(name)
		in.presence.fleet.Restore(name, state, last)
		in.presence.place(b)
	}
}

// onDisk makes a callback of the journal safe: a panic in it costs this record's, and neither those behind it nor the
// journal.
func (in *Ingest) onDisk(where, board string, f func(end journal.Position)) func(end journal.Position) {
	return func(end journal.Position) { in.faults.guard(where, board, func() { f(end) }) }
}

// deliverEach delivers transitions together, and one by one if that panics: the receiver knows those that it has taken
// already.
func (in *Ingest) deliverEach(ts []alert.Transition) {
	if in.faults.guard("deliver transitions", "", func() { in.Deliver(ts) }) || len(ts) == 1 {
		return
	}
	for i := range ts {
		in.faults.guard("deliver a transition", ts[i].Labels["board"], func() { in.Deliver(ts[i : i+1]) })
	}
}
