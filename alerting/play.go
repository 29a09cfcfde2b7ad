package alerting

import (
	"bramble/alerting/alert"
)

// Lose forgets the last value of a series that is not there any more: rules over several series go on without it, as they
// do by themselves where nothing came for 5 min. It is for those who play readings, such as the package ruletest.
func (e *Engine) Lose(s *Series) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.at = 0
}

// FiringNow is Firing with the value for which each condition held last, and with annotations that say so: what a
// receiver would be told now.
func (e *Engine) FiringNow() []alert.Transition { return e.now(e.Firing()) }
