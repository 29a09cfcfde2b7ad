package pager

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// pagerMetrics count the pager's work.
type pagerMetrics struct {
	tries    *prometheus.CounterVec
	pictures *prometheus.CounterVec
	latency  prometheus.Histogram
	health   *receiverHealth
	// exhausted counts escalations that nobody acknowledged, unmanned steps whose rota had nobody.
	exhausted, unmanned prometheus.Counter
	// oncallBroken is 1 while an older oncall.yml is in force than the one that was given.
	oncallBroken prometheus.Gauge
	faults       prometheus.Counter
	reg          prometheus.Registerer
	all          []prometheus.Collector
}

func newPagerMetrics(reg prometheus.Registerer, waiting func() int, inForce func(receiver, integration string) bool, gaps prometheus.Collector) (*pagerMetrics, error) {
	m := &pagerMetrics{
		tries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bramble_page_tries_total", Help: "Tries to deliver a page, by integration and what became of the page.",
		}, []string{"integration", "state"}),
		pictures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bramble_page_pictures_total", Help: "Pictures that a mail waited for, by what became of them: drawn, late or failed.",
		}, []string{"result"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "bramble_page_latency_seconds", Help: "Time from the reading that fired to the page's acceptance by the provider.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2, 5, 15, 60, 300, 1800},
		}),
		health: newReceiverHealth(inForce),
		exhausted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bramble_escalations_exhausted_total", Help: "Escalations that went through all rounds and that nobody acknowledged.",
		}),
		unmanned: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bramble_escalation_gaps_total", Help: "Times that an escalation asked a rota which had nobody on call.",
		}),
		oncallBroken: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "bramble_oncall_file_broken", Help: "1 while oncall.yml cannot be used and an older one is in force.",
		}),
		faults: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bramble_alerting_panics_total", Help: "Faults of the collector met on the way of an alert or a page, which went on; the log has their traces.",
		}),
		reg: reg,
	}
	m.all = []prometheus.Collector{m.tries, m.pictures, m.latency, m.health, m.exhausted, m.unmanned, m.oncallBroken, m.faults, gaps, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "bramble_pages_waiting", Help: "Pages that no provider has accepted yet.",
	}, func() float64 { return float64(waiting()) })}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range m.all {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *pagerMetrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}

// receiverHealth remembers how the last try of each receiver's integration went: the metric bramble_receiver_failing. A
// receiver that is taken out of the configuration fails no more.
type receiverHealth struct {
	desc    *prometheus.Desc
	inForce func(receiver, integration string) bool

	mu      sync.Mutex
	failing map[receiverName]bool
}

type receiverName struct{ receiver, integration string }

func newReceiverHealth(inForce func(receiver, integration string) bool) *receiverHealth {
	return &receiverHealth{
		desc: prometheus.NewDesc("bramble_receiver_failing", "1 where the last try to deliver a page through a receiver failed.",
			[]string{"receiver", "integration"}, nil),
		inForce: inForce, failing: map[receiverName]bool{},
	}
}

func (h *receiverHealth) note(receiver, integration string, failed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failing[receiverName{receiver, integration}] = failed
}

// Describe implements prometheus.Collector.
func (h *receiverHealth) Describe(out chan<- *prometheus.Desc) { out <- h.desc }

// Collect implements prometheus.Collector.
func (h *receiverHealth) Collect(out chan<- prometheus.Metric) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, failing := range h.failing {
		value := 0.0
		if failing && h.inForce(name.receiver, name.integration) {
			value = 1
		}
		out <- prometheus.MustNewConstMetric(h.desc, prometheus.GaugeValue, value, name.receiver, name.integration)
	}
}
