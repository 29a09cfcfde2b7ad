package sensor

import "time"

// alarm wakes the loop once after the time that was set last.
type alarm interface {
	rings() <-chan time.Time
	set(time.Duration)
	close()
}

// goAlarm is an alarm on the runtime's clock: for simulated boards and where
// the system has no better one.
type goAlarm struct{ timer *time.Timer }

func newGoAlarm() goAlarm {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return goAlarm{t}
}

func (a goAlarm) rings() <-chan time.Time { return a.timer.C }
func (a goAlarm) set(d time.Duration)     { a.timer.Reset(d) }
func (a goAlarm) close()                  { a.timer.Stop() }
