package alerting

import "github.com/prometheus/client_golang/prometheus"

// failingAfter is how many evaluations in a row must fail before a rule counts as failing: one may be a store that is
// busy with a backup.
const failingAfter = 3

// FailingRules returns how many rules could not be evaluated three times in a row. A rule that is decided on arrival
// cannot fail.
func (e *Engine) FailingRules() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for id, h := range e.health {
		if h.failures >= failingAfter && e.byID[id] != nil {
			n++
		}
	}
	return n
}

// Register registers the engine's metrics.
func (e *Engine) Register(reg prometheus.Registerer) error {
	return reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "bramble_rules_failing", Help: "Rules whose last three evaluations from the store failed.",
	}, func() float64 { return float64(e.FailingRules()) }))
}
