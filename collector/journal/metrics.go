package journal

import (
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	commit         prometheus.Histogram
	records, bytes prometheus.Counter
}

func newMetrics(r prometheus.Registerer, dir string) metrics {
	m := metrics{
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "bramble_journal_commit_seconds", Help: "Time of one group commit, fsync included.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 12),
		}),
		records: prometheus.NewCounter(prometheus.CounterOpts{Name: "bramble_journal_records_total", Help: "Records committed."}),
		bytes:   prometheus.NewCounter(prometheus.CounterOpts{Name: "bramble_journal_bytes_total", Help: "Bytes committed."}),
	}
	if r != nil {
		r.MustRegister(m.commit, m.records, m.bytes, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "bramble_journal_size_bytes", Help: "Size of the journal's segments: what the store has not on its disk yet, and the present one.",
		}, func() float64 { return float64(size(dir)) }))
	}
	return m
}

// size adds up the segments in dir. One that is removed meanwhile counts nothing.
func size(dir string) (n int64) {
	numbers, err := format.Numbers(dir)
	if err != nil {
		return 0
	}
	for _, number := range numbers {
		if info, err := os.Stat(format.Path(dir, number)); err == nil {
			n += info.Size()
		}
	}
	return n
}

func (m *metrics) observe(batch []entry, took time.Duration) {
	n := 0
	for _, e := range batch {
		n += len(e.record)
	}
	m.commit.Observe(took.Seconds())
	m.records.Add(float64(len(batch)))
	m.bytes.Add(float64(n))
}
