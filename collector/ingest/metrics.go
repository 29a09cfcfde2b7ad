package ingest

import (
	"maps"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
)

// Reasons why a whole report is dropped.
const (
	undecodable   = "undecodable"
	oversized     = "oversized"
	replayed      = "replayed"       // taken before: acknowledged once more, not stored again
	foreign       = "foreign"        // of a board that is not registered
	outsideWindow = "outside_window" // no tick has a time that is accepted
)

type metrics struct {
	rejected                                          map[string]*atomic.Uint64
	reports, readings                                 prometheus.Counter
	unknown, implausible, tooOld, tooNew, seriesLimit prometheus.Counter
	notStored, publishErrors                          prometheus.Counter
	dropped                                           prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	if r == nil {
		r = prometheus.NewRegistry()
	}
	counter := func(name, help string, labels prometheus.Labels) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
		r.MustRegister(c)
		return c
	}
	reading := func(reason string) prometheus.Counter {
		return counter("bramble_readings_rejected_total", "Readings (ticks, where their time is the reason) dropped within accepted reports.", prometheus.Labels{"reason": reason})
	}
	m := &metrics{
		rejected: map[string]*atomic.Uint64{},
		reports:  counter("bramble_reports_total", "Reports decoded.", nil),
		readings: counter("bramble_readings_total", "Readings taken.", nil),
		unknown:  reading("unknown_metric"), implausible: reading("implausible"), tooOld: reading("too_old"),
		tooNew: reading("too_far_ahead"), seriesLimit: reading("series_limit"),
		notStored:     counter("bramble_readings_not_stored_total", "Readings that the store refused for good.", nil),
		publishErrors: counter("bramble_publish_errors_total", "Acks and control messages that could not be sent.", nil),
		dropped:       prometheus.NewGauge(prometheus.GaugeOpts{Name: "bramble_messages_dropped", Help: "Messages that NATS dropped since the start because the loop was behind; sensors send them again."}),
	}
	r.MustRegister(m.dropped)
	for _, reason := range []string{undecodable, oversized, replayed, foreign, outsideWindow} {
		n := new(atomic.Uint64)
		m.rejected[reason] = n
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "bramble_reports_rejected_total", Help: "Reports dropped, by reason.", ConstLabels: prometheus.Labels{"reason": reason},
		}, func() float64 { return float64(n.Load()) }))
	}
	return m
}

func (m *metrics) reject(reason string) { m.rejected[reason].Add(1) }

func (m *metrics) setDropped(s *nats.Subscription) {
	if n, err := s.Dropped(); err == nil {
		m.dropped.Set(float64(n))
	}
}

// Rejected returns how many reports were dropped since the start, by reason.
func (in *Ingest) Rejected() map[string]uint64 {
	counts := make(map[string]uint64, len(in.metrics.rejected))
	for reason, n := range maps.All(in.metrics.rejected) {
		counts[reason] = n.Load()
	}
	return counts
}
