package storage

import (
	"sync/atomic"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/memory"
	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
	"github.com/prometheus/client_golang/prometheus"

	"bramble/storage/internal/lifecycle"
)

var (
	rowsAdded     = lifecycle.Desc("rows_added_total", "Rows that the store took since it was opened.")
	rowsHeld      = lifecycle.Desc("rows", "Rows that the store holds; duplicates count until they are merged.")
	seriesCreated = lifecycle.Desc("series_created_total", "Series that were new since the store was opened.")
	sizeBytes     = lifecycle.Desc("size_bytes", "Size of the rows and the index on disk.")
	reserveHeld   = lifecycle.Desc("disk_reserve_bytes", "Disk space that is kept for the rows in memory when the disk is full; 0 while it is given up.")
	memoryBytes   = lifecycle.Desc("memory_limit_bytes", "Limit of the store's caches.")
	volatileRows  = lifecycle.Desc("rows_in_memory", "Rows that a crash would lose from the store; the journal still has them.")
)

// metrics are one store's; most are read from the engine when they are asked for.
type metrics struct {
	lifecycle.Registration
	store    *Store
	barriers prometheus.Histogram
	nans     atomic.Uint64 // rows dropped before the engine saw them
}

func newMetrics(s *Store) *metrics {
	return &metrics{
		store: s,
		barriers: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "bramble_storage_barrier_seconds",
			Help:    "How long barriers took; adds wait meanwhile.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		rowsAdded, lifecycle.RowsDropped, rowsHeld, seriesCreated, sizeBytes, lifecycle.FreeBytes, lifecycle.FreeLimit, lifecycle.ReadOnly, reserveHeld, memoryBytes, volatileRows,
	} {
		to <- d
	}
	m.barriers.Describe(to)
}

// Collect implements prometheus.Collector. A closed store has no metrics.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	s := m.store
	if s.gate.Enter() != nil {
		return
	}
	defer s.gate.Leave()
	gauge := func(d *prometheus.Desc, v uint64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	var e vm.Metrics
	s.db.UpdateMetrics(&e)
	m.collectCounters(to, &e)
	t := &e.TableMetrics
	gauge(rowsHeld, t.PendingRows+t.InmemoryRowsCount+t.SmallRowsCount+t.BigRowsCount)
	gauge(volatileRows, t.PendingRows+t.InmemoryRowsCount)
	data, index := sizes(&e)
	gauge(sizeBytes, data+index)
	if free, err := s.freeSpace(); err == nil {
		gauge(lifecycle.FreeBytes, free)
	}
	gauge(memoryBytes, uint64(memory.Allowed()))
	held := uint64(0)
	if s.reserved.Load() {
		held = reserveBytes
	}
	gauge(reserveHeld, held)
	gauge(lifecycle.FreeLimit, uint64(s.options.MinFreeBytes))
	full := uint64(0)
	if s.full() {
		full = 1
	}
	gauge(lifecycle.ReadOnly, full)
	m.barriers.Collect(to)
}

func (m *metrics) collectCounters(to chan<- prometheus.Metric, e *vm.Metrics) {
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	count(rowsAdded, e.RowsAddedTotal)
	count(seriesCreated, e.NewTimeseriesCreated)
	count(lifecycle.RowsDropped, e.TooSmallTimestampRows, "too_old")
	count(lifecycle.RowsDropped, e.TooBigTimestampRows, "too_far_ahead")
	count(lifecycle.RowsDropped, e.InvalidRawMetricNames, "invalid_series")
	count(lifecycle.RowsDropped, e.HourlySeriesLimitRowsDropped+e.DailySeriesLimitRowsDropped, "cardinality")
	count(lifecycle.RowsDropped, m.nans.Load(), "nan")
}

// sizes returns the bytes on disk of the rows and of the index.
func sizes(e *vm.Metrics) (data, index uint64) {
	t := &e.TableMetrics
	return t.SmallSizeBytes + t.BigSizeBytes, t.IndexDBMetrics.FileSizeBytes
}
