package alerting

import "maps"

// Annotate sets annotations that alerts carry beside their rule's when they begin to fire on s, from the next reading
// on. They are what the caller knows beyond the value, such as why it calls a board silent. nil removes them.
func (e *Engine) Annotate(s *Series, notes map[string]string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.notes = maps.Clone(notes)
}
