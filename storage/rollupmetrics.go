package storage

import (
	"time"

	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
	"github.com/prometheus/client_golang/prometheus"
)

func rollupDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("bramble_rollup_"+name, help, nil, nil)
}

var (
	rolledSince    = rollupDesc("behind_seconds", "Age of the newest reading that is rolled up; absent before the first.")
	rolledHeld     = rollupDesc("rows", "Rows that the store of the rollups holds; duplicates count until they are merged.")
	rolledSize     = rollupDesc("size_bytes", "Size of the rollups and their index on disk.")
	rawRetained    = rollupDesc("raw_retention_seconds", "How long raw readings are kept at present; longer than configured until old ones were rolled up and the collector was started again.")
	rollupTaken    = prometheus.CounterOpts{Name: "bramble_rollup_readings_total", Help: "Readings that were rolled up since the start."}
	rollupAdded    = prometheus.CounterOpts{Name: "bramble_rollup_rows_added_total", Help: "Rows of rollups that were written since the start."}
	rollupExpired  = prometheus.CounterOpts{Name: "bramble_rollup_expired_seconds_total", Help: "Time whose readings expired before they were rolled up, since the start."}
	rollupFailures = prometheus.CounterOpts{Name: "bramble_rollup_failures_total", Help: "Attempts to roll up that failed since the start; each is tried again."}
	rollupWorked   = prometheus.CounterOpts{Name: "bramble_rollup_work_seconds_total", Help: "Time that rolling up has worked, its pauses left out, since the start."}
)

// rollupMetrics are those of one Rollups.
type rollupMetrics struct {
	registration
	of *Rollups

	taken, added, expired, failures, worked prometheus.Counter
}

func newRollupMetrics(r *Rollups) (*rollupMetrics, error) {
	m := &rollupMetrics{
		of: r, taken: prometheus.NewCounter(rollupTaken), added: prometheus.NewCounter(rollupAdded), expired: prometheus.NewCounter(rollupExpired),
		failures: prometheus.NewCounter(rollupFailures), worked: prometheus.NewCounter(rollupWorked),
	}
	return m, m.register(r.Registerer, m)
}

func (m *rollupMetrics) counters() []prometheus.Counter {
	return []prometheus.Counter{m.taken, m.added, m.expired, m.failures, m.worked}
}

// chunk counts what one day took.
func (m *rollupMetrics) chunk(w *rollupWriter) {
	m.taken.Add(float64(w.taken))
	m.added.Add(float64(w.added))
	m.worked.Add((w.worked + time.Since(w.since)).Seconds())
}

// Describe implements prometheus.Collector.
func (m *rollupMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{rolledSince, rolledHeld, rolledSize, rawRetained} {
		to <- d
	}
	for _, c := range m.counters() {
		c.Describe(to)
	}
}

// Collect implements prometheus.Collector. Rollups of a closed store have no metrics.
func (m *rollupMetrics) Collect(to chan<- prometheus.Metric) {
	s := m.of.Rolled
	if s.gate.enter() != nil {
		return
	}
	defer s.gate.leave()
	gauge := func(d *prometheus.Desc, v float64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	var e vm.Metrics
	s.db.UpdateMetrics(&e)
	t := &e.TableMetrics
	gauge(rolledHeld, float64(t.PendingRows+t.InmemoryRowsCount+t.SmallRowsCount+t.BigRowsCount))
	data, index := sizes(&e)
	gauge(rolledSize, float64(data+index))
	gauge(rawRetained, m.of.Raw.retention().Seconds())
	if until := m.of.Until(); !until.IsZero() {
		gauge(rolledSince, time.Since(until).Seconds())
	}
	for _, c := range m.counters() {
		c.Collect(to)
	}
}
