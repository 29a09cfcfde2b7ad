package alerting

import (
	"math"
	"slices"
)

// Thresholds returns, ascending and without repetition, the numbers that the rules in force compare a metric with on
// arrival: what a board is worth watching closely near.
func (e *Engine) Thresholds(metric string) []float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []float64
	for r := range e.rules.All() {
		if r.condition == nil {
			continue
		}
		for _, l := range r.condition.leaves {
			if l.name == metric && !math.IsNaN(l.limit) && !math.IsInf(l.limit, 0) {
				out = append(out, l.limit)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
