package alerting

import (
	"slices"
	"strings"
)

// boardMetrics begin the names of the series that boards have.
var boardMetrics = []string{"pi_", "pisensor_"}

// BoardAlerts returns the names of the rules in force that may fire on boards, in order: those whose expression has a
// board's series.
func (e *Engine) BoardAlerts() (names []string) {
	e.mu.Lock()
	rules := e.rules
	e.mu.Unlock()
	for r := range rules.All() {
		if slices.ContainsFunc(boardMetrics, func(p string) bool { return strings.Contains(r.Expr, p) }) {
			names = append(names, r.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
