package dashboards

import "github.com/prometheus/client_golang/prometheus"

type hubMetrics struct {
	clients prometheus.Gauge
	skipped prometheus.Counter
	denied  prometheus.Counter
	panics  prometheus.Counter
}

func newHubMetrics(r prometheus.Registerer) (*hubMetrics, error) {
	m := &hubMetrics{
		clients: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "bramble_live_clients", Help: "Browsers connected to the live websocket.",
		}),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bramble_live_messages_skipped_total", Help: "Live messages that a slow browser missed.",
		}),
		denied: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bramble_login_denied_total", Help: "Logins refused: wrong password or too many attempts.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bramble_http_panics_total", Help: "Faults of the collector that ended the connection of one client; the log has their traces.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.clients, m.skipped, m.denied, m.panics} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
