package sensor

import "time"

// alarm ends the loop's waits.
type alarm interface {
	// wait returns after a time, or at a signal since the last wait. One goroutine waits.
	wait(time.Duration)
	// signal ends the current wait early, else the next. Any goroutine may call it.
	signal()
	close()
}

// goAlarm is an alarm on the runtime's clock: for simulated boards and where
// the system has no better one.
type goAlarm struct {
	timer     *time.Timer
	signalled chan struct{} // holds at most one
}

func newGoAlarm() goAlarm {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return goAlarm{t, make(chan struct{}, 1)}
}

func (a goAlarm) wait(d time.Duration) {
	a.timer.Reset(d)
	select {
	case <-a.timer.C:
	case <-a.signalled:
		a.timer.Stop()
	}
}

func (a goAlarm) signal() {
	select {
	case a.signalled <- struct{}{}:
	default: // a signal is pending already
	}
}

func (a goAlarm) close() { a.timer.Stop() }

// alarm returns one that fits the clock.
func (c *core) alarm() alarm {
	if c.o.boottime {
		return newAlarm()
	}
	return newGoAlarm()
}
