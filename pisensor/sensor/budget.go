package sensor

import "time"

// The budget that a board's owner was promised: shares of one core and
// wake-ups at the default rate of a tick in 10 s and at 1 Hz, a straight line
// in between, and resident memory. Nobody promised wake-ups at 1 Hz: these are
// those of a tick and of its acknowledgement, of Go's monitor thread beside
// each, and half as many again.
const (
	calmShare, fastShare     = 0.001, 0.005
	calmWakeups, fastWakeups = 1.5, 12.0
	budgetMemory             = 8 << 20 // bytes
)

const (
	// budgetWindow is the time over which the cost is averaged before a decision: long enough for a
	// TLS handshake on the slowest board, which costs seconds.
	budgetWindow = 10 * time.Minute
	// budgetSpare is the share of the budget below which a stretched interval
	// may return.
	budgetSpare = 0.6
	// restFirst and restMax are how long the cost must have stayed that low;
	// it doubles each time that the return was too early.
	restFirst = 30 * time.Minute
	restMax   = 8 * time.Hour
	// stretchMax doublings make the longest interval: 8 times, and never more
	// than MaxInterval.
	stretchMax = 3
)

// stretch lengthens an interval by doublings.
type stretch int

func (s stretch) factor() time.Duration { return 1 << s }

// measured holds the process's use of CPU time and wake-ups since its start, and its memory now.
type measured struct {
	cpu     time.Duration
	wakeups int64
	memory  int64 // resident bytes
	known   bool
}

// budget decides how much the sensor must slow down to stay within its allowed cost. It is pure.
// First live mode yields, then the calm interval; the interval of a board near a line never does.
// Memory is only watched: sampling less often would not give any back. The zero value has spent
// nothing.
type budget struct {
	calm, live stretch

	from    measured // at the start of the window
	began   time.Duration
	ticks   int // in the window
	atLine  int // of these
	inLease int
	low     time.Duration // how long the cost has been low
	rest    time.Duration // how long it must have been
	tried   bool          // an interval has just returned

	share, wakeups float64 // of the last window: cores, wake-ups a second
	memory         int64   // resident bytes at its end
}

// ticked counts a tick, and the causes of its rate.
func (b *budget) ticked(atLine, inLease bool) {
	b.ticks++
	if atLine {
		b.atLine++
	}
	if inLease {
		b.inLease++
	}
}

// over reports whether the budget holds something back.
func (b *budget) over() bool { return b.calm > 0 || b.live > 0 }

// measure takes a measurement, and decides when a window is full. The first
// window begins with the second measurement: the start of a process is paid once.
func (b *budget) measure(now time.Duration, m measured) {
	switch {
	case b.rest == 0: // first measurement
		b.rest = restFirst
	case !b.from.known:
		b.restart(now, m)
	case now-b.began >= budgetWindow:
		b.decide((now - b.began).Seconds(), m)
		b.restart(now, m)
	}
}

func (b *budget) restart(now time.Duration, m measured) {
	b.from, b.began, b.ticks, b.atLine, b.inLease = m, now, 0, 0, 0
}

func (b *budget) decide(seconds float64, m measured) {
	b.memory = m.memory
	b.share = (m.cpu - b.from.cpu).Seconds() / seconds
	b.wakeups = float64(m.wakeups-b.from.wakeups) / seconds
	rate := min(max(float64(b.ticks)/seconds, 0.1), 1) // ticks a second
	between := func(calm, fast float64) float64 { return calm + (fast-calm)*(rate-0.1)/0.9 }
	used := max(b.share/between(calmShare, fastShare), b.wakeups/between(calmWakeups, fastWakeups))
	spare := budgetSpare
	if b.calm == 0 && b.inLease == 0 {
		spare = 1 // nobody looked, so the average holds no cost of live mode
	}
	switch {
	case used > 1:
		b.slower()
	case used < spare:
		b.low += time.Duration(seconds * float64(time.Second))
		b.faster()
	default:
		b.low = 0
	}
}

// slower stretches the next interval that may yield.
func (b *budget) slower() {
	if b.tried {
		b.rest = min(2*b.rest, restMax)
	}
	b.low, b.tried = 0, false
	switch {
	case b.inLease > 0 && b.live < stretchMax:
		b.live++
	case b.atLine == 0 && b.calm < stretchMax:
		b.calm++
	}
}

// faster takes one doubling back after a long enough rest.
func (b *budget) faster() {
	if b.low < b.rest {
		return
	}
	b.low, b.tried = 0, b.over()
	switch {
	case b.calm > 0:
		b.calm--
	case b.live > 0:
		b.live--
	default:
		b.rest = restFirst
	}
}
