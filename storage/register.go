package storage

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// registration is what a registry was given, so that it can be taken back. The zero value is of none.
type registration struct {
	at    prometheus.Registerer
	given []prometheus.Collector
}

// register gives r collectors, all of them or none. A nil r gets nothing.
func (g *registration) register(r prometheus.Registerer, collectors ...prometheus.Collector) error {
	if r == nil {
		return nil
	}
	g.at = r
	for _, c := range collectors {
		if err := r.Register(c); err != nil {
			g.unregister()
			return fmt.Errorf("register metrics: %w", err)
		}
		g.given = append(g.given, c)
	}
	return nil
}

func (g *registration) unregister() {
	for _, c := range g.given {
		g.at.Unregister(c)
	}
	g.given = nil
}
