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
// The first era has no anchor until the collector has answered. A later era
// opens only by a confirmed correction, and with its anchor. What is anchored
// stays as it is.
type eras struct {
	anchors []int64 // of each era; empty until the first anchor is known
	doubt   bool    // something contradicts the anchor: ask the collector

	best      measurement // the sharpest of the first answers
	answers   int
	candidate *int64 // a correction that awaits its confirmation
	wallSeen  int64  // the system clock's anchor that was last checked
	logged    int    // eras that were logged
}

// measurement is what one answered hello tells: the collector's anchor, and by
// how much it may be off.
type measurement struct{ anchor, uncertain int64 }

// current returns the era of a tick taken now.
func (e *eras) current() int { return max(len(e.anchors)-1, 0) }

// anchor returns an era's anchor, and false while it is unknown.
func (e *eras) anchor(era int) (int64, bool) {
	if era >= len(e.anchors) {
		return 0, false
	}
	return e.anchors[era], true
}

// settled reports that no further answer is needed now.
func (e *eras) settled() bool { return len(e.anchors) > 0 && !e.doubt }

// answered takes the answer to a hello: the collector's time, the round trip
// and the board's clocks when it came. It reports whether a new era began.
func (e *eras) answered(collector, trip, uptime, wall int64) bool {
	m := measurement{anchor: collector + trip/2 - uptime, uncertain: trip / 2}
	if len(e.anchors) == 0 {
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
	e.anchors = append(e.anchors, choose(e.best, wall))
	e.wallSeen = wall
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
	to, now := choose(m, wall), e.anchors[len(e.anchors)-1]
	if distance(to, now) <= tolerance.Milliseconds() || distance(m.anchor, now) <= tolerance.Milliseconds()+m.uncertain {
		e.candidate = nil
		return false
	}
	if e.candidate == nil || distance(*e.candidate, to) > tolerance.Milliseconds()+m.uncertain {
		e.candidate, e.doubt = &to, true
		return false
	}
	e.candidate = nil
	e.anchors = append(e.anchors, to)
	return true
}

// heard takes the time in an ack that answers no hello. Its delay is unknown,
// so that it can only raise a doubt.
func (e *eras) heard(collector, uptime int64) {
	if len(e.anchors) > 0 && distance(collector-uptime, e.anchors[len(e.anchors)-1]) > tolerance.Milliseconds() {
		e.doubt = true
	}
}

// looked compares the system clock: a step raises a doubt, once.
func (e *eras) looked(uptime, wall int64) {
	if len(e.anchors) == 0 {
		return
	}
	if distance(wall-uptime, e.wallSeen) > tolerance.Milliseconds() {
		e.wallSeen, e.doubt = wall-uptime, true
	}
}

func distance(a, b int64) int64 { return max(a-b, b-a) }
