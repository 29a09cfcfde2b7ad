package ingest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/collector/journal"
	"bramble/storage"
)

// tape is a real journal of numbered records, each of which yields some rows, and a feeder from it
// to a real store.
type tape struct {
	*feeder
	t       *testing.T
	journal *journal.Journal
	store   *storage.Store
	next    uint64
	made    sync.Map // numbers of the records whose rows were made again
}

const tapeRows = 1000 // of a record

func newTape(t *testing.T) *tape {
	t.Helper()
	x := &tape{t: t}
	var err error
	if x.store, err = storage.Open(filepath.Join(t.TempDir(), "series"), storage.Options{MemoryBytes: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	if x.journal, err = journal.Open(filepath.Join(t.TempDir(), "journal"), journal.Options{}, func([]byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- x.journal.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, x.store.Close()); err != nil {
			t.Error(err)
		}
	})
	end := x.journal.End()
	x.feeder = &feeder{
		store: x.store, read: x.journal.Read, changed: func(err error) { t.Error(err) }, faults: newFaults(newMetrics(nil).panics, slog.New(slog.DiscardHandler)),
		wake: make(chan struct{}, 1), stopping: make(chan struct{}), offered: end, from: end, stored: end,
		rowsOf: func(dst []storage.Row, record []byte) ([]storage.Row, error) {
			n := binary.BigEndian.Uint64(record)
			x.made.Store(n, true)
			return append(dst, rowsOf(n)...), nil
		},
	}
	return x
}

var tapeSeries = storage.SeriesOf([]storage.Label{{Name: "__name__", Value: "tape"}})

// tapeStart is when the rows of the first record begin, in Unix ms.
var tapeStart = time.Now().Add(-10 * time.Hour).UnixMilli()

func rowsOf(n uint64) []storage.Row {
	rows := make([]storage.Row, tapeRows)
	for i := range rows {
		k := int64(n*tapeRows) + int64(i)
		rows[i] = storage.Row{Series: tapeSeries, At: tapeStart + k, Value: float64(k)}
	}
	return rows
}

// append journals the next record and offers its rows.
func (x *tape) append() journal.Position {
	x.t.Helper()
	rows := rowsOf(x.next)
	done := make(chan journal.Position)
	err := x.journal.Append(binary.BigEndian.AppendUint64(nil, x.next), func(end journal.Position) {
		x.offer(&rows, end)
		done <- end
	})
	if err != nil {
		x.t.Fatal(err)
	}
	x.next++
	return <-done
}

// TestFeederReadsRowsBeyondItsMemory journals far more than waits in memory
// while the store is away. Nothing waits, and all of it comes to the store once.
func TestFeederReadsRowsBeyondItsMemory(t *testing.T) {
	x := newTape(t)
	const first = 3 * maxWaiting / tapeRows
	for range first {
		x.append()
	}
	if rows, behind := x.lag(); rows != maxWaiting || !behind {
		t.Errorf("%d rows wait, behind %v", rows, behind)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); x.run() }()
	var last journal.Position
	for range 50 { // while it catches up
		last = x.append()
	}
	reached := make(chan struct{})
	x.when(last, func() { close(reached) })
	<-reached
	last = x.append() // in memory again
	reached = make(chan struct{})
	x.when(last, func() { close(reached) })
	<-reached
	x.end()
	<-ended
	all := float64(x.next * tapeRows)
	got, err := x.store.Query(t.Context(), fmt.Sprintf("count_over_time(tape[20h]) + 1e9 * (max_over_time(tape[20h]) - min_over_time(tape[20h]) == bool %g)", all-1), time.Now())
	if err != nil || len(got) != 1 || got[0].Values[0] != all+1e9 {
		t.Errorf("%v, %v, want %v rows", got, err, all)
	}
	for n := range uint64(maxWaiting / tapeRows) {
		if _, again := x.made.Load(n); again {
			t.Errorf("record %d was in memory and is read again", n)
		}
	}
	if _, again := x.made.Load(x.next - 1); again {
		t.Error("the last record was in memory and is read again")
	}
}

func TestHandoverDeliversOnce(t *testing.T) {
	var got []string
	began := time.Now()
	h := &handover{deliver: func(ts []alert.Transition) { got = append(got, ts[0].Rule) }}
	a, b, c := h.wait([]alert.Transition{{Rule: "a"}}), h.wait([]alert.Transition{{Rule: "b"}}), h.wait([]alert.Transition{{Rule: "c"}})
	h.wait(nil)()
	a()
	if n := h.overdue(began); n != 0 {
		t.Errorf("%d are overdue at once", n)
	}
	if n := h.overdue(time.Now().Add(deliverAnyway)); n != 2 {
		t.Errorf("%d are overdue, want 2", n)
	}
	d := h.wait([]alert.Transition{{Rule: "d"}})
	b()
	c()
	d()
	if fmt.Sprint(got) != "[a b c d]" || len(h.waiting) != 0 {
		t.Errorf("delivered %v, %d wait", got, len(h.waiting))
	}
}
