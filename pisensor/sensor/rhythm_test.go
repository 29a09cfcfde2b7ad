package sensor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"bramble/pisensor/report"
)

func TestIntervalNearALine(t *testing.T) {
	f := func(temperature int64, want time.Duration) {
		t.Helper()
		r := newRhythm("b1", DefaultInterval, 0)
		r.control(0, request{setLines: true, lines: []int64{70_000}})
		for range 2 { // the first may be beyond lines that it has just reached
			r.observe(0, []report.Reading{{Series: report.Series{Metric: report.SOCTemperature}, Value: temperature}})
		}
		if got := r.current(0); got != want {
			t.Errorf("at %d m°C: %v, want %v", temperature, got, want)
		}
	}
	f(40_000, 10*time.Second)
	f(59_000, 10*time.Second)
	f(65_600, 4*time.Second)
	f(69_500, time.Second)
	f(70_000, time.Second)
	f(71_000, time.Second)
	f(75_600, 4*time.Second) // the firmware's own limits are lines too
	f(80_000, time.Second)
	f(82_500, 2*time.Second)
	f(85_000, time.Second)
	f(96_500, 10*time.Second)
	f(-1<<62, 10*time.Second)
}

// TestTwoReadingsAtALine heats boards up to a line, each with a phase and a slope of its own and from anywhere: the line
// is reached, and the second reading at or above it is taken within 2 s. A reading far beyond a line, which is most
// likely wrong, is followed by another one within a second, and calls for no more if that is cool.
func TestTwoReadingsAtALine(t *testing.T) {
	heat := func(r *rhythm, at time.Duration, v int64) {
		r.observe(at, []report.Reading{{Series: report.Series{Metric: report.SOCTemperature}, Value: v}})
	}
	slowest := time.Duration(0)
	for i := range 1000 {
		r := newRhythm(fmt.Sprint("b", i), DefaultInterval, 0)
		r.control(0, request{setLines: true, lines: []int64{70_000, 80_000}})
		rnd := rand.New(rand.NewPCG(uint64(i), 1))
		perSecond, start := 1+rnd.Int64N(slope), 30_000+rnd.Int64N(49_000)
		crossed := time.Duration(80_000-start) * time.Second / time.Duration(perSecond)
		above := 0
		for now := r.take(0); above < 2; now = r.take(r.due(now)) {
			v := start + perSecond*int64(now)/int64(time.Second)
			heat(&r, now, v)
			if v >= 80_000 {
				above++
			}
			if above == 2 {
				slowest = max(slowest, now-crossed)
			}
		}
	}
	if slowest > 2*time.Second+10*time.Millisecond {
		t.Errorf("the second reading at the line is taken %v after the crossing", slowest)
	}

	r := newRhythm("b1", DefaultInterval, 0)
	heat(&r, 0, 45_000)
	if heat(&r, 0, 97_000); r.current(0) != time.Second {
		t.Errorf("after a jump to 97 °C: %v", r.current(0))
	}
	if heat(&r, 0, 45_000); r.current(0) != DefaultInterval {
		t.Errorf("back at 45 °C: %v", r.current(0))
	}
	fresh := newRhythm("b1", DefaultInterval, 0)
	if heat(&fresh, 0, 97_000); fresh.current(0) != time.Second {
		t.Errorf("a first tick at 97 °C: %v", fresh.current(0))
	}
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

func TestFirmwareLimitsOfEachModel(t *testing.T) {
	f := func(model string, want time.Duration) {
		t.Helper()
		r := newRhythm("b1", DefaultInterval, 0)
		r.limits = limitsOf(model)
		r.observe(0, []report.Reading{{Series: report.Series{Metric: report.SOCTemperature}, Value: 57_800}})
		if got := r.current(0); got != want {
			t.Errorf("%s at 57.8 °C: %v, want %v", model, got, want)
		}
	}
	f("Raspberry Pi 3 Model B Plus Rev 1.3", 2*time.Second)
	f("Raspberry Pi 3 Model A Plus Rev 1.0", 2*time.Second)
	f("Raspberry Pi 3 Model B Rev 1.2", DefaultInterval)
	f("Raspberry Pi Model B Plus Rev 1.2", DefaultInterval)
	f("Raspberry Pi 4 Model B Rev 1.4", DefaultInterval)
	f("", DefaultInterval)
}

func TestHardwareThatCallsForEver(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		o := b.options(&readings{n: 4})
		wake := make(chan struct{}, 1)
		o.Wake = wake
		b.connect(true)
		_, stop := b.start(o)
		pass(time.Minute)
		storm, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for storm.Err() == nil {
				select {
				case wake <- struct{}{}:
				case <-storm.Done():
				}
			}
		}()
		before := b.taken()
		pass(4 * time.Second)
		first := b.taken() - before
		pass(time.Hour)
		calls := b.taken() - before
		cancel()
		<-done
		pass(time.Minute)
		before = b.taken()
		pass(10 * time.Minute)
		calm := b.taken() - before
		stop()
		if first < 4 || first > 17 || calls < 3500 || calls > 3700 {
			t.Errorf("%d ticks in the first 4 s, %d in an hour, want at most 4 a second, then about one", first, calls)
		}
		if calm > 62 {
			t.Errorf("%d ticks in 10 min after the storm", calm)
		}
	})
}
