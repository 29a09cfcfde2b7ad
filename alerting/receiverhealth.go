package alerting

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

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

// integrates reports whether the configuration has such an integration.
func (p *Pager) integrates(receiver, integration string) bool {
	r := p.routing.Load()
	if r == nil {
		return false
	}
	for i := range r.integrations[receiver] {
		if r.integrations[receiver][i].Name() == integration {
			return true
		}
	}
	return false
}
