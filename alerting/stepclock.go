package alerting

import (
	"sync"
	"time"
)

// clockStep is the smallest difference between the two clocks that counts as a step of the wall clock. The kernel slews
// both alike, so that anything of a second is one.
const clockStep = time.Second

// stepClock is the time by which steps fall due: wall time that does not jump when the wall clock is set. A jump is taken
// over together with the due times of all that waits, so that nothing comes early, late or twice.
type stepClock struct {
	started time.Time // with its monotonic reading

	mu   sync.Mutex
	base int64 // wall time at started, as if the clock had always stood where it stands now; Unix nanoseconds
}

func newStepClock() *stepClock {
	now := time.Now()
	return &stepClock{started: now, base: now.UnixNano()}
}

// now is the time in Unix milliseconds.
func (c *stepClock) now() int64 { return c.at(time.Now()) }

func (c *stepClock) at(now time.Time) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return (c.base + now.Sub(c.started).Nanoseconds()) / int64(time.Millisecond)
}

// jumped is by how much the wall clock was set since, in milliseconds; 0 where it was not.
func (c *stepClock) jumped(wall int64, now time.Time) int64 {
	if d := wall - c.at(now); d >= clockStep.Milliseconds() || d <= -clockStep.Milliseconds() {
		return d
	}
	return 0
}

// follow takes a jump over, once what waits has been moved by as much.
func (c *stepClock) follow(jump int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base += jump * int64(time.Millisecond)
}
