// Package backoff says how long to wait between tries: of the sensor with its collector, and of the collector with the
// providers that take its pages.
//
// It owns one rule: waits double up to a limit, so that a peer that is down for long is not pressed, and each is spread, so
// that a thousand boards, or a thousand pages, that failed in the same instant do not come again in the same instant. A
// quarter both ways is enough for that, and keeps the limit a limit that people can be told (Marc Brooker, "Exponential
// Backoff And Jitter", 2015, compares wider spreads).
//
// It keeps no state and does not sleep: the caller counts its failed tries and decides when to give up.
package backoff

import (
	"math/rand/v2"
	"time"
)

// maxDoublings keeps the shift from overflowing: any first wait of a millisecond or more is above a
// minute by then.
const maxDoublings = 16

// Wait returns how long to wait after a try that failed: first, doubled by each of the failed tries
// before it, limit at most, and spread by a quarter both ways. failed counts those before, so 0 stands
// for the first try; a negative number counts as 0. Without a first wait it is 0. The wait for one
// second and a limit of a minute is 0.75 to 1.25 s, then twice that, and 45 to 75 s from the seventh on.
//
// It is safe for concurrent use.
func Wait(first, limit time.Duration, failed int) time.Duration {
	d := min(first<<min(max(failed, 0), maxDoublings), limit)
	return d*3/4 + rand.N(max(d/2, 1))
}
