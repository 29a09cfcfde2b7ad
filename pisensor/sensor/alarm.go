package sensor

import "time"

// alarm is what the loop waits for.
type alarm interface {
	// wait returns after a time, or when somebody has rung since the last wait.
	// One goroutine waits.
	wait(time.Duration)
	// ring ends a wait early: the one that is, else the next. Any goroutine may.
	ring()
	close()
}

// goAlarm is an alarm on the runtime's clock: for simulated boards and where
// the system has no better one.
type goAlarm struct {
	timer *time.Timer
	rung  chan struct{} // holds at most one
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
	case <-a.rung:
		a.timer.Stop()
	}
}

func (a goAlarm) ring() {
	select {
	case a.rung <- struct{}{}:
	default: // it has been rung already
	}
}

func (a goAlarm) close() { a.timer.Stop() }
