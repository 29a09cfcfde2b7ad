package ingest

import (
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

type metrics struct {
	reports, readings, postponed prometheus.Counter
	publishErrors, panics        prometheus.Counter
	dropped                      prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		reports:       counter("bramble_reports_total", "Reports decoded."),
		readings:      counter("bramble_readings_total", "Readings taken."),
		postponed:     counter("bramble_reports_postponed_total", "Reports decided, but left to their sensors for want of room in the journal."),
		publishErrors: counter("bramble_publish_errors_total", "Acks and control messages that could not be sent."),
		panics:        counter("bramble_ingest_panics_total", "Messages that a fault of the collector has cost; the log has its trace."),
		dropped:       prometheus.NewGauge(prometheus.GaugeOpts{Name: "bramble_messages_dropped", Help: "Messages that NATS dropped since the start because the loop was behind; sensors send them again."}),
	}
	if r != nil {
		r.MustRegister(m.reports, m.readings, m.postponed, m.publishErrors, m.panics, m.dropped)
	}
	return m
}

// watch registers the gauges of rows and reports on their way.
func (in *Ingest) watch(r prometheus.Registerer) {
	if r == nil {
		return
	}
	gauge := func(name, help string, f func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
	}
	gauge("bramble_feed_waiting_rows", "Rows that wait in memory for the store; the journal has them.", func() float64 {
		rows, _ := in.feeder.lag()
		return float64(rows)
	})
	gauge("bramble_feed_behind", "1 while rows for the store are in the journal alone.", func() float64 {
		if _, behind := in.feeder.lag(); behind {
			return 1
		}
		return 0
	})
	gauge("bramble_ingest_paused", "1 while reports are not acknowledged, because the journal has no room for them.", func() float64 {
		if in.Err() != nil {
			return 1
		}
		return 0
	})
	r.MustRegister(&in.drops)
}

func (m *metrics) setDropped(s *nats.Subscription) {
	if n, err := s.Dropped(); err == nil {
		m.dropped.Set(float64(n))
	}
}

// Taken counts reports and readings since the start.
func (in *Ingest) Taken() (reports, readings uint64) {
	return count(in.metrics.reports), count(in.metrics.readings)
}

func count(c prometheus.Counter) uint64 {
	var m dto.Metric
	if c.Write(&m) != nil { // a counter never fails
		return 0
	}
	return uint64(m.GetCounter().GetValue())
}
