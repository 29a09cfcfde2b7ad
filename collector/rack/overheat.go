package rack

import (
	"time"

	"bramble/pisensor/report"
	"bramble/pisensor/sim"
)

// How a board is overheated: it works hard for a while, and then its airflow fails. The model
// computes the outcome. The two times are chosen by looking ahead with a copy of the board, so that
// it throttles at a wanted time.
const (
	blockedAirflow = 2.2 // a fan that stands still, in a closed row
	tolerated      = 10 * time.Second
)

var overloadLeads = []time.Duration{10 * time.Minute, 4 * time.Minute, 90 * time.Second}

// overheat lets the board throttle at about a time and returns when it does.
// It reports false for a board that cannot get so hot, or is hot already.
func (b *board) overheat(at time.Time) (time.Time, bool) {
	end := at.Add(heatTime)
	for _, lead := range overloadLeads {
		ready := b.sim.Clone()
		ready.Advance(at.Add(-lead))
		ready.Overload(at.Add(-lead), end)
		block, hot := latestBlock(ready, at, lead)
		if hot.IsZero() || hot.Before(at.Add(-tolerated)) {
			continue
		}
		b.sim.Overload(at.Add(-lead), end)
		b.sim.BlockAirflow(block, end, blockedAirflow)
		return hot, true
	}
	return time.Time{}, false
}

// latestBlock finds by halving the latest time at which the airflow can fail
// so that the board throttles not after at, and when it does. hot is zero when
// no time within the lead is early enough.
func latestBlock(ready *sim.Board, at time.Time, lead time.Duration) (block, hot time.Time) {
	early, late := at.Add(-lead), at
	hot = throttles(ready, early, at)
	if hot.IsZero() {
		return early, hot
	}
	block = early
	for late.Sub(early) > time.Second {
		middle := early.Add(late.Sub(early) / 2).Truncate(time.Second)
		if t := throttles(ready, middle, at); t.IsZero() {
			late = middle
		} else {
			early, block, hot = middle, middle, t
		}
	}
	return block, hot
}

// throttles returns when a copy of the board throttles, if its airflow fails
// at a time, or zero when not until at.
func throttles(ready *sim.Board, block, at time.Time) time.Time {
	b := ready.Clone()
	b.BlockAirflow(block, at.Add(heatTime), blockedAirflow)
	for t := block; !t.After(at); t = t.Add(time.Second) {
		b.Advance(t)
		if b.State().Throttled&throttledBit != 0 {
			return t
		}
	}
	return time.Time{}
}

// throttledBit is the firmware's “currently throttled”.
var throttledBit = bitOf("throttled")

func bitOf(reason string) int64 {
	for i, r := range report.Reasons {
		if r == reason {
			return 1 << i
		}
	}
	panic("report has no throttle reason " + reason)
}
