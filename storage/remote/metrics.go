package remote

import (
	"sync/atomic"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/fs"
	"github.com/prometheus/client_golang/prometheus"

	"bramble/storage/internal/lifecycle"
)

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("bramble_remote_"+name, help, nil, nil)
}

var (
	upDesc       = desc("up", "1 while the remote store takes rows.")
	sentDesc     = desc("rows_sent_total", "Rows that the remote store took, those that were sent again included.")
	failuresDesc = desc("failures_total", "Requests to the remote store that failed.")
	resendsDesc  = desc("resends_total", "Times that all of the queue was sent again, because the remote store was restarted.")
	queueDesc    = desc("queue_bytes", "Size on disk of what is kept until the remote store has it safely.")
	waitingDesc  = desc("queue_rows_waiting", "Rows that the remote store has not taken yet; a file that is partly sent counts whole.")
	visibleDesc  = desc("restarts_visible", "1 if a restart of the remote store can be seen, and so no row is lost by it.")
	dedupDesc    = desc("deduplicates", "1 if the remote store deduplicates at a millisecond; absent where that cannot be seen.")
)

// metrics are one remote's.
type metrics struct {
	lifecycle.Registration
	remote                        *Store
	sent, failures, resends, nans atomic.Uint64
}

func newMetrics(r *Store) *metrics { return &metrics{remote: r} }

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		upDesc, sentDesc, failuresDesc, resendsDesc, queueDesc, waitingDesc, visibleDesc, dedupDesc,
		lifecycle.FreeBytes, lifecycle.FreeLimit, lifecycle.ReadOnly, lifecycle.RowsDropped,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector. A closed store has no metrics.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	r := m.remote
	if r.gate.Enter() != nil {
		return
	}
	defer r.gate.Leave()
	gauge := func(d *prometheus.Desc, v float64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	count(sentDesc, m.sent.Load())
	count(failuresDesc, m.failures.Load())
	count(resendsDesc, m.resends.Load())
	count(lifecycle.RowsDropped, m.nans.Load(), "nan")
	size, waiting := r.queue.held(r.state.sent())
	gauge(queueDesc, float64(size))
	gauge(waitingDesc, float64(waiting))
	facts := r.state.learnt()
	gauge(upDesc, truth(r.Err() == nil))
	if facts.who != "" {
		gauge(visibleDesc, truth(!facts.blind))
		if facts.dedup != dedupUnknown {
			gauge(dedupDesc, truth(facts.dedup == dedupOn))
		}
	}
	gauge(lifecycle.FreeBytes, float64(fs.MustGetFreeSpace(r.options.Dir)))
	gauge(lifecycle.FreeLimit, float64(r.options.MinFreeBytes))
	gauge(lifecycle.ReadOnly, truth(r.full()))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
