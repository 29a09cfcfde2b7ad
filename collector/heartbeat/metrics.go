package heartbeat

import "github.com/prometheus/client_golang/prometheus"

var (
	overdueDesc  = prometheus.NewDesc("bramble_heartbeat_overdue", "1 where a heartbeat has not come in time.", []string{"heartbeat", "board"}, nil)
	ageDesc      = prometheus.NewDesc("bramble_heartbeat_age_seconds", "Time since a heartbeat last came.", []string{"heartbeat", "board"}, nil)
	deadlineDesc = prometheus.NewDesc("bramble_heartbeat_within_seconds", "How long a heartbeat may stay away.", []string{"heartbeat", "board"}, nil)
)

// Describe implements prometheus.Collector.
func (b *Store) Describe(ch chan<- *prometheus.Desc) {
	ch <- overdueDesc
	ch <- ageDesc
	ch <- deadlineDesc
}

// Collect implements prometheus.Collector. One that was removed is said to be well for a while: a series that merely
// vanished would not end its alert.
func (b *Store) Collect(ch chan<- prometheus.Metric) {
	now := b.now()
	for _, h := range b.list(true) {
		gauge := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, h.Name, h.Board)
		}
		overdue := 0.0
		if h.Overdue {
			overdue = 1
		}
		gauge(overdueDesc, overdue)
		if h.removed == 0 {
			gauge(ageDesc, float64(now-h.LastAt)/1000)
			gauge(deadlineDesc, h.within.Seconds())
		}
	}
}
