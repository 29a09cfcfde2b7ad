package broker

import "github.com/prometheus/client_golang/prometheus"

// metrics are the broker's own series.
type metrics struct {
	authentications *prometheus.CounterVec
	enrolments      *prometheus.CounterVec
	displaced       prometheus.Counter
	suppressed      prometheus.Counter
	panics          prometheus.Counter
	slow            prometheus.Counter
	operations      *prometheus.CounterVec
	refused         *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		authentications: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bramble_broker_authentications_total",
			Help: "Clients that asked to come in, by result: board and enrolment came in, the other results were refused.",
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
		slow: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bramble_broker_slow_consumers_total",
			Help: "Clients that were cut off because they did not read what was sent to them.",
		}),
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bramble_broker_refused_operations_total",
			Help: "Messages of clients that were refused, by kind: login, publish and subscribe (beyond their permissions), protocol (no operation of a board), stale (a silent client).",
		}, []string{"kind"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bramble_broker_panics_total",
			Help: "Faults of the collector that ended the connection of one client; the log has their traces.",
		}),
	}
	for _, kind := range []string{"login", "publish", "subscribe", "protocol", "stale"} {
		m.operations.WithLabelValues(kind)
	}
	for _, who := range []string{"stranger", "board"} {
		m.refused.WithLabelValues(who) // a rule asks for the increase from 0
	}
	return m
}

func (m *metrics) authentication(result string) { m.authentications.WithLabelValues(result).Inc() }
func (m *metrics) operation(kind string)        { m.operations.WithLabelValues(kind).Inc() }
func (m *metrics) enrolment(result string)      { m.enrolments.WithLabelValues(result).Inc() }

// collectors returns all series.
func (m *metrics) collectors(f *front) []prometheus.Collector {
	return []prometheus.Collector{
		m.authentications, m.enrolments, m.displaced, m.suppressed, m.panics, m.slow, m.operations, m.refused,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "bramble_broker_connections",
			Help: "Open connections of boards and strangers.",
		}, func() float64 { return float64(f.connections()) }),
	}
}
