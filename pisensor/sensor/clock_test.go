package sensor

import (
	"testing"
	"time"

	"bramble/pisensor/report"
)

// TestAWeekOfDrift runs a board whose crystal is off by 50 ppm, with a system
// clock that nobody sets, against a collector with the true time.
func TestAWeekOfDrift(t *testing.T) {
	for _, ppm := range []int64{50, -50} {
		bubble(t, func(t *testing.T, b *bench) {
			o := b.options(&readings{n: 4})
			drift := func(d time.Duration) time.Duration { return d + d*time.Duration(ppm)/1e6 }
			began := time.Now()
			o.Uptime = func() time.Duration { return time.Hour + drift(time.Since(began)) }
			o.Wall = func() time.Time { return began.Add(-time.Hour + drift(time.Since(began))) } // an hour behind
			o.Interval = 30 * time.Second
			b.tolerates = tolerance + fast
			b.connect(true)
			c, stop := b.start(o)
			pass(7 * 24 * time.Hour)
			stop()
			checkComplete(t, b, c)
			if eras := c.eras.opened; eras < 100 || eras > 130 {
				t.Errorf("%d eras for 30 s of drift", eras)
			}
			if b.hellos > 3*7*24+3*130 {
				t.Errorf("%d hellos in a week", b.hellos)
			}
			if b.repeated > 0 {
				t.Errorf("%d readings came twice", b.repeated)
			}
			if want := 7 * 24 * 120; len(b.ticks) < want-10 || len(b.ticks) > want+10 {
				t.Errorf("%d ticks, want %d", len(b.ticks), want)
			}
		})
	}
}

// TestSuspendedTime lets the boot-relative clock, which counts it, go on while
// nothing runs, as after a suspend.
func TestSuspendedTime(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		o := b.options(&readings{n: 4})
		asleep := time.Duration(0)
		o.Uptime = func() time.Duration {
			b.mu.Lock()
			defer b.mu.Unlock()
			return time.Since(b.began) + time.Hour + asleep
		}
		b.connect(true)
		c, stop := b.start(o)
		pass(10 * time.Minute)
		before := b.taken()
		b.do(func() { asleep, b.wallSkew, b.skew = 5*time.Hour, 5*time.Hour, 5*time.Hour })
		pass(10 * time.Minute)
		if n := b.taken() - before; n < 59 || n > 62 {
			t.Errorf("%d ticks in 10 min after a suspend", n)
		}
		stop()
		checkComplete(t, b, c)
		if c.eras.opened != 1 {
			t.Errorf("%d eras: suspended time does not move the boot-relative clock", c.eras.opened)
		}
	})
}

func TestClockOffsetIsSaidWhileItIsKnown(t *testing.T) {
	offset := report.Series{Metric: report.ClockOffset}
	f := func(name string, delay, skew time.Duration, want int64, known bool) {
		t.Helper()
		bubble(t, func(t *testing.T, b *bench) {
			b.wallSkew, b.delay = skew, func() time.Duration { return delay }
			o := b.options(&readings{n: 4})
			o.OwnSeries = true
			b.connect(true)
			_, stop := b.start(o)
			pass(30 * time.Minute)
			b.connect(false)
			pass(30 * time.Minute)
			b.connect(true)
			pass(10 * time.Minute)
			stop()
			n := 0
			for k, v := range b.values {
				if k.series == offset {
					n++
					if distance(v, want) > delay.Milliseconds() {
						t.Errorf("%s: offset %d ms, want %d", name, v, want)
					}
				}
			}
			// 30 min, then 10 in the dark, then 10: once a minute.
			if known && (n < 45 || n > 52) || !known && n > 0 {
				t.Errorf("%s: said %d times in 70 min", name, n)
			}
		})
	}
	f("right", 4*time.Millisecond, 0, 0, true)
	f("a year behind", 4*time.Millisecond, -365*24*time.Hour, -365*24*3600*1000, true)
	f("a day ahead", 40*time.Millisecond, 24*time.Hour, 24*3600*1000, true)
	f("a link too slow to tell", 3*time.Second, 0, 0, false)
}

func TestOffsetFollowsASystemClockThatIsSet(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.wallSkew = -56 * 365 * 24 * time.Hour // 1970
		o := b.options(&readings{n: 4})
		o.OwnSeries = true
		b.connect(true)
		_, stop := b.start(o)
		pass(5 * time.Minute)
		b.do(func() { b.wallSkew = 0 }) // NTP has found its server
		pass(5 * time.Minute)
		stop()
		if v := b.last(report.Series{Metric: report.ClockOffset}); distance(v, 0) > 20 {
			t.Errorf("offset %d ms after the clock was set", v)
		}
	})
}
