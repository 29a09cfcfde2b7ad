package sensor

import (
	"testing"
	"time"

	"bramble/pisensor/report"
)

func TestIntervalNearALine(t *testing.T) {
	f := func(temperature int64, want time.Duration) {
		t.Helper()
		r := newRhythm("b1", DefaultInterval, 0)
		r.control(0, report.Control{SetLines: true, Lines: []report.Line{
			{Metric: report.SOCTemperature, Level: 80_000}, {Metric: report.ClockMeasured, Level: 600},
		}})
		r.observe(0, []report.Reading{{Series: report.Series{Metric: report.SOCTemperature}, Value: temperature}})
		if got := r.current(0); got != want {
			t.Errorf("at %d m°C: %v, want %v", temperature, got, want)
		}
	}
	f(40_000, 10*time.Second)
	f(69_000, 10*time.Second)
	f(75_600, 4*time.Second)
	f(79_500, time.Second)
	f(80_000, time.Second)
	f(81_000, time.Second)
	f(95_000, 10*time.Second)
	f(-1<<62, 10*time.Second)
}

func TestThrottleBitIsFastForAWhile(t *testing.T) {
	r := newRhythm("b1", DefaultInterval, 0)
	bit := []report.Reading{{Series: report.Series{Metric: report.Throttled}, Value: 4}}
	r.observe(time.Minute, bit)
	if got := r.current(2 * time.Minute); got != fast {
		t.Errorf("a minute after the bit was set: %v", got)
	}
	r.observe(3*time.Minute, bit)
	if got := r.current(time.Minute + maxThrottled); got != DefaultInterval {
		t.Errorf("long after it was set: %v", got)
	}
}

func TestLateTickCarriesItsTrueTime(t *testing.T) {
	r := newRhythm("b1", DefaultInterval, 0)
	r.take(0)
	due := r.due(0)
	if got := r.take(due + 100*time.Millisecond); got != due {
		t.Errorf("a little late: %v, want the nominal %v", got, due)
	}
	due = r.due(due)
	late := due + 3*time.Second
	if got := r.take(late); got != late {
		t.Errorf("3 s late: %v, want %v", got, late)
	}
	if got := r.due(late); got != due+DefaultInterval {
		t.Errorf("then: %v, want the grid's %v", got, due+DefaultInterval)
	}
}

func TestEventIsTakenAtOnce(t *testing.T) {
	r := newRhythm("b1", DefaultInterval, 0)
	r.take(0)
	now := r.due(0)
	r.take(now)
	event := now + 3333*time.Millisecond
	r.call(event)
	if got := r.due(event); got != event {
		t.Errorf("due at %v, want %v", got, event)
	}
	r.take(event)
	r.call(event + time.Millisecond)
	if got := r.due(event); got != event+eventGap {
		t.Errorf("the next event is due at %v, want %v", got, event+eventGap)
	}
}

func TestBoardsAreSpreadOverTheInterval(t *testing.T) {
	slots := map[time.Duration]int{}
	for i := range 1000 {
		r := newRhythm("rack1-"+string(rune('a'+i%26))+string(rune('a'+i/26)), DefaultInterval, 0)
		r.take(0)
		slots[r.due(0).Truncate(time.Second)%DefaultInterval]++
	}
	for slot, n := range slots {
		if n < 50 || n > 150 {
			t.Errorf("%d of 1000 boards in second %v", n, slot)
		}
	}
}
