package sensor

import (
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"time"

	"bramble/pisensor/report"
)

const (
	// fast is the interval of live mode and of a board at a line: 1 Hz.
	fast = time.Second
	// maxThrottled ends the fast sampling of a board whose throttle bits stay
	// as they are: the beginning matters, hours of it do not.
	maxThrottled = 10 * time.Minute
	// slope is how fast a SoC heats up at most, in m°C per second. The steepest
	// step of the recordings of real boards at 1 Hz is 1.1 °C.
	slope = 1100
	// eventGap is the minimum time between two ticks when the hardware calls.
	eventGap = 250 * time.Millisecond
	// eventBurst is how many calls are answered that soon. Hardware that calls for ever is then answered at 1 Hz.
	eventBurst = 8
)

// The firmware's own limits, in m°C: it throttles the ARM cores from 80 °C on
// and the GPU too at 85 °C; the 3A+ and 3B+ lower the clock from 60 °C on
// (raspberrypi/documentation, thermal management). The throttle bits change there.
var (
	everyLimit = []int64{80_000, 85_000}
	plusLimit  = []int64{60_000, 80_000, 85_000}
)

// limitsOf returns the firmware's limits of a model, as /proc/device-tree/model names it.
func limitsOf(model string) []int64 {
	if strings.HasPrefix(model, "Raspberry Pi 3 Model ") && strings.Contains(model, " Plus") {
		return plusLimit
	}
	return everyLimit
}

// rhythm decides when the next tick is due. It is pure: time comes in with
// every call, on the boot-relative clock.
type rhythm struct {
	interval time.Duration // where nothing asks for more
	phase    time.Duration // the board's place in every interval
	budget   budget

	last       time.Duration // the last tick's nominal instant
	lease      time.Duration // live mode until then
	limits     []int64       // temperatures at which the firmware acts, m°C
	lines      []int64       // temperatures at which a rule does
	heat       int64         // the last tick's temperature, m°C; before the first one below every line
	near       time.Duration // the interval that the temperature's distance to a line asks for
	bits       int64         // throttle bits of the last tick
	bitsSince  time.Duration // when they changed
	event      time.Duration // the hardware calls for a tick then
	eventIsDue bool
	eventPaid  time.Duration // calls so far are spread over the seconds until then
}

// newRhythm starts a rhythm whose first tick is due at once.
func newRhythm(board string, interval, now time.Duration) rhythm {
	h := fnv.New64a()
	h.Write([]byte(board))
	phase := time.Duration(h.Sum64()%uint64(MaxInterval/time.Millisecond)) * time.Millisecond
	return rhythm{
		interval: interval, phase: phase, limits: everyLimit, heat: math.MinInt64, near: never,
		event: now, eventIsDue: true, eventPaid: now, last: -1,
	}
}

// atLine reports whether the temperature or the throttle bits ask for more
// than the calm interval. The budget has no say there.
func (r *rhythm) atLine(now time.Duration) bool {
	return r.near < r.interval || r.bits != 0 && now-r.bitsSince < maxThrottled
}

// current returns the interval that now holds.
func (r *rhythm) current(now time.Duration) time.Duration {
	want := min(r.interval*r.budget.calm.factor(), MaxInterval, r.near)
	if now < r.lease {
		want = min(want, fast*r.budget.live.factor())
	}
	if r.bits != 0 && now-r.bitsSince < maxThrottled {
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
	r.eventIsDue = false // any tick later than the call answers it
	r.budget.ticked(r.atLine(now), now < r.lease)
	return nominal
}

// call asks for a tick at once: the hardware has reported an event, or the
// lines have changed.
func (r *rhythm) call(now time.Duration) {
	if r.eventIsDue {
		return
	}
	gap := eventGap
	r.eventPaid = max(r.eventPaid, now) + fast
	if limit := now + eventBurst*fast; r.eventPaid >= limit {
		r.eventPaid, gap = limit, fast
	}
	r.event, r.eventIsDue = max(now, r.last+gap), true
}

// observe adapts the rhythm to a tick's readings.
func (r *rhythm) observe(now time.Duration, readings []report.Reading) {
	var m measured
	for i := range readings {
		v := readings[i].Value
		switch readings[i].Series.Metric {
		case report.SOCTemperature:
			r.near = r.distance(v)
			if r.reached(v) {
				r.near = min(fast, r.interval)
			}
			r.heat = v
		case report.Throttled, report.UnderVoltage: // a board has one of them
			if v != r.bits {
				r.bits, r.bitsSince = v, now
			}
		case report.SensorCPU:
			m.cpu, m.known = time.Duration(v)*time.Millisecond, true
		case report.SensorWakeups:
			m.wakeups = v
		case report.SensorMemory:
			m.memory = v << 10
		}
	}
	if m.known {
		r.budget.measure(now, m)
	}
}

// distance returns how long the SoC needs at least to reach the nearest line,
// never for one beyond the calm interval.
func (r *rhythm) distance(temperature int64) time.Duration {
	near := r.interval
	for _, levels := range [2][]int64{r.limits, r.lines} {
		for _, level := range levels {
			gap := min(max(level-temperature, temperature-level), int64(MaxInterval/time.Second)*slope)
			near = min(near, time.Duration(gap)*time.Second/slope)
		}
	}
	if near >= r.interval {
		return never
	}
	return max(near, min(fast, r.interval))
}

// reached reports whether the temperature has come to a line, or beyond it, since the tick before. A rule may ask for a
// second reading there; the next tick is then due within a second, however far beyond the line the first one is.
func (r *rhythm) reached(temperature int64) bool {
	for _, levels := range [...][]int64{r.limits, r.lines} {
		for _, level := range levels {
			if r.heat < level && level <= temperature {
				return true
			}
		}
	}
	return false
}

// control carries out a request that allow has capped.
func (r *rhythm) control(now time.Duration, q request) {
	if q.lease > 0 {
		r.lease = max(r.lease, now+q.lease)
	}
	if q.setLines && !slices.Equal(q.lines, r.lines) {
		r.lines = q.lines
		r.call(now) // the tick knows how near they are
	}
}

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
