package storage

import (
	"math"
	"sync"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/decimal"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"

	"bramble/storage/series"
)

// MaxLabelBytes is where names and values of labels are cut, as in VictoriaMetrics' own ingestion; the
// engine panics above 64 KiB.
const MaxLabelBytes = 4 << 10

// exact tells the engine to keep all 64 bits of a value's precision.
const exact = 64

// Label is a name and a value of a series. The metric's name is the label "__name__".
type Label = series.Label

// Series names one time series in the engine's encoding. Make it once with [SeriesOf] and keep it; it
// never changes and may be used with any store.
type Series []byte

// SeriesOf encodes labels, which include __name__, in any order and each name once. Empty values count as
// absent. Names and values are cut to 4 KiB.
func SeriesOf(labels []Label) Series {
	encoded := make([]prompb.Label, len(labels))
	for i, l := range labels {
		encoded[i] = prompb.Label{Name: cut(l.Name), Value: cut(l.Value)}
	}
	return vm.MarshalMetricNameRaw(nil, encoded)
}

func cut(s string) string { return s[:min(len(s), MaxLabelBytes)] }

// Stale is the marker that ends a series, see [series.Stale].
var Stale = series.Stale

// Row is one value of one series at one time, in Unix milliseconds. The engine keeps whole numbers up to
// 15 digits as they are and 12 significant digits of all others. A NaN other than Stale is not stored but counted.
type Row struct {
	Series Series
	At     int64
	Value  float64
}

// Add stores rows, all of them or none. They are visible to the next query and durable after the next
// [Store.Barrier]. Rows that the store can never take (older than the retention, more than two days ahead,
// NaN) are left out and counted in bramble_storage_rows_dropped_total; that is no error. Add returns
// [ErrReadOnly], [ErrNoFiles], [ErrNotOpen] or [ErrClosed]. It keeps no reference to rows. A running barrier makes it wait, 0.3 s at most
// in practice.
func (s *Store) Add(rows []Row) error {
	if err := s.gate.Enter(); err != nil {
		return err
	}
	defer s.gate.Leave()
	if s.full() {
		return ErrReadOnly
	}
	if err := s.want(); err != nil {
		return err
	}
	batch := batches.Get().(*[]vm.MetricRow)
	defer batches.Put(batch)
	nans := 0
	*batch, nans = convert((*batch)[:0], rows)
	s.metrics.nans.Add(uint64(nans))

	s.writers.RLock()
	defer s.writers.RUnlock()
	s.db.AddRows(*batch, exact)
	s.fresh.added.Add(1)
	return nil
}

// Record is [Store.Add] for callers that know no engine, such as recording rules.
func (s *Store) Record(samples []series.Sample) error { return s.Add(RowsOf(samples)) }

// RowsOf turns samples into rows, for stores whose callers know no engine.
func RowsOf(samples []series.Sample) []Row {
	rows := make([]Row, len(samples))
	for i, sample := range samples {
		rows[i] = Row{Series: SeriesOf(sample.Labels), At: sample.At, Value: sample.Value}
	}
	return rows
}

var batches = sync.Pool{New: func() any { return new([]vm.MetricRow) }}

func convert(into []vm.MetricRow, rows []Row) (_ []vm.MetricRow, nans int) {
	for i := range rows {
		r := &rows[i]
		if math.IsNaN(r.Value) && !decimal.IsStaleNaN(r.Value) {
			nans++
			continue
		}
		into = append(into, vm.MetricRow{MetricNameRaw: r.Series, Timestamp: r.At, Value: r.Value})
	}
	return into, nans
}
