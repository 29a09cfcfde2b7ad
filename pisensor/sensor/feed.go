package sensor

import (
	"time"

	"bramble/pisensor/report"
)

// feed is where ticks come from: the board's sources, or a recording. Times
// are on the boot-relative clock.
type feed interface {
	// due returns the instant of the next tick; false when none will follow.
	due(now time.Duration) (time.Duration, bool)
	// take fills the tick that is due and returns its instant, in whole
	// milliseconds and later than the one before.
	take(now time.Duration, t *report.Tick) time.Duration
}

// sampler feeds the sources' readings in the board's rhythm.
type sampler struct {
	rhythm
	sources []Source
}

func (s *sampler) due(now time.Duration) (time.Duration, bool) { return s.rhythm.due(now), true }

func (s *sampler) take(now time.Duration, t *report.Tick) time.Duration {
	at := s.rhythm.take(now)
	for _, source := range s.sources {
		source.Read(t)
	}
	s.observe(now, t.Readings)
	return at
}
