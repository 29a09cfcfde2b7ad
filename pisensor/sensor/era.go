package sensor

import "time"

const (
	// tolerance is how far a clock may be off before it counts as wrong.
	tolerance = 250 * time.Millisecond
	// sharp is the longest round trip that fixes the collector's clock well
	// enough by itself: it is uncertain by half of it.
	sharp = 2 * tolerance
	// patience is how many answers over a slow link are compared before the
	// quickest is taken.
	patience = 3
)

// eras knows where the board's boot-relative clock lies on the wall clock. It
// is pure. Times are milliseconds: an anchor is the Unix time at which the
// boot-relative clock stood at zero.
//
// The first era has no anchor until the collector has answered. A later era opens only by a
// confirmed correction, and with its anchor. The anchor of an earlier tick never changes.
type eras struct {
	opened int   // eras with an anchor so far
	at     int64 // anchor of the last one
	doubt  bool  // something contradicts the anchor: ask the collector

	best      measurement // the sharpest of the first answers
	answers   int
	candidate int64 // a correction, where awaits says that it needs its confirmation
	awaits    bool
	wallSeen  int64 // the system clock's anchor that was last checked

	latest    measurement // of the last answer
	confirmed int64       // uptime when the collector last said the same, 0 = never
}

// measurement is the result of one answered hello: the collector's anchor, and its largest error.
type measurement struct{ anchor, uncertain int64 }

// anchor returns the current era's anchor, and false while it is unknown.
func (e *eras) anchor() (int64, bool) { return e.at, e.opened > 0 }

// open begins an era.
func (e *eras) open(anchor, wall int64) {
	e.opened++
	e.at, e.wallSeen = anchor, wall
}

// settled reports that no further answer is needed now.
func (e *eras) settled() bool { return e.opened > 0 && !e.doubt }

// known is for how long the collector's clock stays known by a measurement: a
// crystal that is off by 50 ppm strays by 30 ms.
const known = 10 * time.Minute

// offset returns how far the system clock is ahead of the collector's, in ms.
// It is false unless that was measured to within the tolerance, and confirmed a
// short while ago.
func (e *eras) offset(uptime, wall int64) (int64, bool) {
	if e.confirmed == 0 || e.latest.uncertain > tolerance.Milliseconds() || uptime-e.confirmed > known.Milliseconds() {
		return 0, false
	}
	return wall - uptime - e.latest.anchor, true
}

// answered takes the answer to a hello: the collector's time, the round trip
// and the board's clocks when it came. It reports whether a new era began.
func (e *eras) answered(collector, trip, uptime, wall int64) bool {
	m := measurement{anchor: collector + trip/2 - uptime, uncertain: trip / 2}
	e.latest, e.confirmed = m, uptime
	if e.opened == 0 {
		return e.first(m, wall-uptime)
	}
	return e.correct(m, wall-uptime)
}

// first anchors the first era.
func (e *eras) first(m measurement, wall int64) bool {
	e.answers++
	if e.answers == 1 || m.uncertain < e.best.uncertain {
		e.best = m
	}
	if e.best.uncertain > sharp.Milliseconds()/2 && e.answers < patience {
		return false
	}
	e.open(choose(e.best, wall), wall)
	return true
}

// choose prefers the system clock where the collector confirms it: it is free
// of the network's delay.
func choose(m measurement, wall int64) int64 {
	if distance(m.anchor, wall) <= tolerance.Milliseconds()+m.uncertain {
		return wall
	}
	return m.anchor
}

// correct opens a new era when two answers in a row contradict the current
// anchor in the same way, each beyond its own uncertainty: a delayed answer is
// as uncertain as it is late, and so proves nothing.
func (e *eras) correct(m measurement, wall int64) bool {
	e.wallSeen, e.doubt = wall, false
	to, now := choose(m, wall), e.at
	if distance(to, now) <= tolerance.Milliseconds() || distance(m.anchor, now) <= tolerance.Milliseconds()+m.uncertain {
		e.awaits = false
		return false
	}
	if !e.awaits || distance(e.candidate, to) > tolerance.Milliseconds()+m.uncertain {
		e.candidate, e.awaits, e.doubt = to, true, true
		return false
	}
	e.awaits = false
	e.open(to, wall)
	return true
}

// heard takes the time in an ack that answers no hello. Its delay is unknown,
// so that it can only raise a doubt, where an answer is likely to confirm it.
func (e *eras) heard(collector, uptime int64) {
	if e.opened > 0 && distance(collector-uptime, e.at) > tolerance.Milliseconds()+2*e.latest.uncertain {
		e.doubt = true
	}
	if e.confirmed > 0 && distance(collector-uptime, e.latest.anchor) <= tolerance.Milliseconds() {
		e.confirmed = uptime
	}
}

// looked compares the system clock: a step raises a doubt, once.
func (e *eras) looked(uptime, wall int64) {
	if e.opened == 0 {
		return
	}
	if distance(wall-uptime, e.wallSeen) > tolerance.Milliseconds() {
		e.wallSeen, e.doubt = wall-uptime, true
	}
}

func distance(a, b int64) int64 { return max(a-b, b-a) }
