package dashboards

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	denied prometheus.Counter
	panics prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
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
	for _, c := range []prometheus.Collector{m.denied, m.panics} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
