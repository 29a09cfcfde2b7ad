package sensor

import (
	"hash/fnv"
	"slices"
	"time"

	"bramble/pisensor/report"
)

const (
	// fast is the interval of live mode and of a board at a line: 1 Hz.
	fast = time.Second
	// maxLease caps one lease; a viewer who stays renews it.
	maxLease = time.Minute
	// maxThrottled ends the fast sampling of a board whose throttle bits stay
	// as they are: the beginning matters, hours of it do not.
	maxThrottled = 10 * time.Minute
	// slope is how fast a SoC heats up at most, in m°C per second. The steepest
	// step of the recordings of real boards at 1 Hz is 1.1 °C.
	slope = 1100
	// eventGap is the least time between two ticks when the hardware calls.
	eventGap = 250 * time.Millisecond
)

// rhythm decides when the next tick is due. It is pure: time comes in with
// every call, on the boot-relative clock.
type rhythm struct {
	interval time.Duration // where nothing asks for more
	phase    time.Duration // the board's place in every interval

	last       time.Duration // the last tick's nominal instant
	lease      time.Duration // live mode until then
	lines      []report.Line
	near       time.Duration // what the temperature's distance to a line asks for
	bits       int64         // throttle bits of the last tick
	bitsSince  time.Duration // when they changed
	event      time.Duration // the hardware calls for a tick then
	eventIsDue bool
}

// newRhythm starts a rhythm whose first tick is due at once.
func newRhythm(board string, interval, now time.Duration) rhythm {
	h := fnv.New64a()
	h.Write([]byte(board))
	phase := time.Duration(h.Sum64()%uint64(MaxInterval/time.Millisecond)) * time.Millisecond
	return rhythm{interval: interval, phase: phase, near: interval, event: now, eventIsDue: true, last: -1}
}

// current returns the interval that now holds.
func (r *rhythm) current(now time.Duration) time.Duration {
	want := min(r.interval, r.near)
	if now < r.lease || r.bits != 0 && now-r.bitsSince < maxThrottled {
		want = min(want, fast)
	}
	if want >= time.Second {
		want = want.Truncate(time.Second)
	}
	return want
}

// due returns the instant of the next tick: the first one after the last tick
// that lies on the board's grid for the current interval.
func (r *rhythm) due(now time.Duration) time.Duration {
	i := r.current(now)
	offset := r.phase % i
	n := (r.last - offset) / i
	if r.last < offset {
		n = -1
	}
	next := offset + (n+1)*i
	if r.eventIsDue {
		next = min(next, r.event)
	}
	return next
}

// take says which instant a tick taken now carries, and makes it the last one.
// It is the nominal one, unless the board was so late that this would be untrue.
func (r *rhythm) take(now time.Duration) time.Duration {
	nominal := r.due(now)
	if now-nominal > tolerance || nominal > now {
		nominal = now
	}
	nominal = max(nominal.Truncate(time.Millisecond), r.last+time.Millisecond)
	r.last = nominal
	if r.eventIsDue && r.event <= now {
		r.eventIsDue = false
	}
	return nominal
}

// call asks for a tick at once: the hardware has reported an event.
func (r *rhythm) call(now time.Duration) {
	r.event, r.eventIsDue = max(now, r.last+eventGap), true
}

// observe adapts the rhythm to what a tick has read.
func (r *rhythm) observe(now time.Duration, readings []report.Reading) {
	for _, v := range readings {
		switch v.Series.Metric {
		case report.SOCTemperature:
			r.near = r.distance(v.Value)
		case report.Throttled:
			if v.Value != r.bits {
				r.bits, r.bitsSince = v.Value, now
			}
		}
	}
}

// distance returns how long the SoC needs at least to reach the nearest line.
func (r *rhythm) distance(temperature int64) time.Duration {
	near := r.interval
	for _, l := range r.lines {
		if l.Metric != report.SOCTemperature {
			continue
		}
		gap := min(max(l.Level-temperature, temperature-l.Level), int64(MaxInterval/time.Second)*slope)
		near = min(near, time.Duration(gap)*time.Second/slope)
	}
	return max(near, min(fast, r.interval))
}

// control carries out what the collector asks for, within the board's own caps.
func (r *rhythm) control(now time.Duration, c report.Control) {
	if c.Lease > 0 {
		lease := min(time.Duration(min(c.Lease, maxLease.Milliseconds()))*time.Millisecond, maxLease)
		r.lease = max(r.lease, now+lease)
	}
	if c.SetLines && !slices.Equal(c.Lines, r.lines) {
		r.lines = c.Lines
		r.near = r.interval // until the next tick knows better, which is due now
		r.call(now)
	}
}
