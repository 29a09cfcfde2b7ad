package broker

import (
	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the broker's own series.
type metrics struct {
	authentications *prometheus.CounterVec
	enrolments      *prometheus.CounterVec
	displaced       prometheus.Counter
	suppressed      prometheus.Counter
	panics          prometheus.Counter
	refused         *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		authentications: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bramble_broker_authentications_total",
			Help: "Clients that asked to come in, by result: board, enrolment and collector came in, the other results were refused.",
		}, []string{"result"}),
		enrolments: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bramble_enrolments_total",
			Help: "Enrolment requests by result: enrolled, replaced (another key for a known board), repeated, refused, malformed, unknown_token, throttled.",
		}, []string{"result"}),
		displaced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bramble_broker_displaced_connections_total",
			Help: "Live connections that were cut because their board connected again.",
		}),
		suppressed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bramble_broker_suppressed_log_lines_total",
			Help: "Warnings of the message server and refused enrolments that were not logged because there were too many.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bramble_broker_refused_connections_total",
			Help: "Connections that were refused or ended because the limit of open files is reached: strangers', and boards' that could be no more than strangers'.",
		}, []string{"who"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bramble_broker_panics_total",
			Help: "Faults of the collector that ended the connection of one client; the log has their traces.",
		}),
	}
	for _, who := range []string{"stranger", "board"} {
		m.refused.WithLabelValues(who) // a rule asks for the increase from 0
	}
	return m
}

func (m *metrics) authentication(result string) { m.authentications.WithLabelValues(result).Inc() }
func (m *metrics) enrolment(result string)      { m.enrolments.WithLabelValues(result).Inc() }

// collectors returns all series, those that the server itself counts included.
func (m *metrics) collectors(ns *server.Server) []prometheus.Collector {
	return []prometheus.Collector{
		m.authentications, m.enrolments, m.displaced, m.suppressed, m.panics, m.refused,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "bramble_broker_connections",
			Help: "Open client connections, without the collector's own.",
		}, func() float64 { return float64(max(0, ns.NumClients()-1)) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "bramble_broker_slow_consumers_total",
			Help: "Clients that were cut off because they did not read what was sent to them.",
		}, func() float64 { return float64(ns.NumSlowConsumers()) }),
	}
}
