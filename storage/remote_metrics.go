package storage

import (
	"sync/atomic"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/fs"
	"github.com/prometheus/client_golang/prometheus"
)

func remoteDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("bramble_remote_"+name, help, nil, nil)
}

var (
	remoteUp       = remoteDesc("up", "1 while the remote store takes rows.")
	remoteSent     = remoteDesc("rows_sent_total", "Rows that the remote store took, those that were sent again included.")
	remoteFailures = remoteDesc("failures_total", "Requests to the remote store that failed.")
	remoteResends  = remoteDesc("resends_total", "Times that all of the queue was sent again, because the remote store was restarted.")
	remoteQueue    = remoteDesc("queue_bytes", "Size on disk of what is kept until the remote store has it safely.")
	remoteWaiting  = remoteDesc("queue_rows_waiting", "Rows that the remote store has not taken yet; a file that is partly sent counts whole.")
	remoteVisible  = remoteDesc("restarts_visible", "1 if a restart of the remote store can be seen, and so no row is lost by it.")
	remoteDedup    = remoteDesc("deduplicates", "1 if the remote store deduplicates at a millisecond; absent where that cannot be seen.")
)

// remoteMetrics are one remote's.
type remoteMetrics struct {
	registration
	remote                        *Remote
	sent, failures, resends, nans atomic.Uint64
}

func newRemoteMetrics(r *Remote) *remoteMetrics { return &remoteMetrics{remote: r} }

// Describe implements prometheus.Collector.
func (m *remoteMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		remoteUp, remoteSent, remoteFailures, remoteResends, remoteQueue, remoteWaiting, remoteVisible, remoteDedup,
		freeBytes, freeLimit, readOnly, rowsDropped,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector. A closed store has no metrics.
func (m *remoteMetrics) Collect(to chan<- prometheus.Metric) {
	r := m.remote
	if r.gate.enter() != nil {
		return
	}
	defer r.gate.leave()
	gauge := func(d *prometheus.Desc, v float64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	count(remoteSent, m.sent.Load())
	count(remoteFailures, m.failures.Load())
	count(remoteResends, m.resends.Load())
	count(rowsDropped, m.nans.Load(), "nan")
	size, waiting := r.queue.held(r.state.sent())
	gauge(remoteQueue, float64(size))
	gauge(remoteWaiting, float64(waiting))
	facts := r.state.learnt()
	gauge(remoteUp, truth(r.Err() == nil))
	if facts.who != "" {
		gauge(remoteVisible, truth(!facts.blind))
		if facts.dedup != dedupUnknown {
			gauge(remoteDedup, truth(facts.dedup == dedupOn))
		}
	}
	gauge(freeBytes, float64(fs.MustGetFreeSpace(r.options.Dir)))
	gauge(freeLimit, float64(r.options.MinFreeBytes))
	gauge(readOnly, truth(r.full()))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
