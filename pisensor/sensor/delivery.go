package sensor

import (
	"slices"
	"time"

	"bramble/pisensor/report"
)

const (
	// ackTime is how long an acknowledgement of a small report may take before
	// the ticks count as backlog: a hundred group commits of the collector.
	ackTime = 5 * time.Second
	// ackMost bounds the wait for a backlog report's acknowledgement.
	ackMost = time.Minute
	// backlogSize is the size that a backlog report aims at, in bytes. Beyond
	// it larger reports save nothing, while the present would have to wait
	// behind them on a link that the collector limits.
	backlogSize = 8 << 10
	// backlogRate is the slowest link that a backlog report's time-out allows
	// for, in bytes per second.
	backlogRate = 2 << 10
	// presentGap is the least time between two reports of new ticks, half of
	// the fastest sampling: only a recording played fast comes near it.
	presentGap = 250 * time.Millisecond
	// presentTicks bounds a report of new ticks, presentFlights how many such
	// reports may wait for their acknowledgement.
	presentTicks, presentFlights = 32, 16
)

// flight is a published report that waits for its acknowledgement.
type flight struct {
	first    uint64
	count    int
	deadline time.Duration
}

// delivery is the state of publishing: new ticks go out at once in small
// reports; whatever is not acknowledged in time is backlog, of which one large
// report at a time is under way, behind the present.
type delivery struct {
	past    bool     // a recording of the past: everything is backlog
	fresh   uint64   // ticks from this number on were never sent
	present []flight // by tick number
	last    time.Duration
	backlog flight // count 0 = none under way
	attempt int    // of the backlog report
	retry   time.Duration
	perTick int // encoded bytes of a backlog tick, as last seen
	report  report.Report
	buf     []byte
}

// interrupted forgets what is under way: the connection is gone.
func (d *delivery) interrupted() {
	d.present, d.backlog.count = d.present[:0], 0
}

// expire turns reports whose acknowledgement is overdue into backlog.
func (d *delivery) expire(now time.Duration, c *core) {
	for len(d.present) > 0 && d.present[0].deadline <= now {
		c.about.lost(d.present[0].first)
		d.present = slices.Delete(d.present, 0, 1)
	}
	if d.backlog.count > 0 && d.backlog.deadline <= now {
		c.about.lost(d.backlog.first)
		d.backlog.count = 0
		d.retry = now + backOff(helloFirst, helloMost, d.attempt)
		d.attempt++
	}
}

// acknowledged removes the flights that have arrived.
func (d *delivery) acknowledged(now time.Duration, c *core) {
	d.present = slices.DeleteFunc(d.present, func(f flight) bool { return !c.spool.waits(f.first, f.count) })
	if d.backlog.count > 0 && !c.spool.waits(d.backlog.first, d.backlog.count) {
		d.backlog.count, d.attempt, d.retry = 0, 0, now
	}
}

// next returns when delivery has something to do again.
func (d *delivery) next(now time.Duration, c *core) time.Duration {
	at := never
	if len(d.present) > 0 {
		at = d.present[0].deadline
	}
	if d.backlog.count > 0 {
		return min(at, d.backlog.deadline)
	}
	if d.retry > now && c.answered && len(c.spool.chunks) > 0 {
		at = min(at, d.retry)
	}
	if !d.past && d.last+presentGap > now && d.fresh < c.spool.next {
		at = min(at, d.last+presentGap)
	}
	return at
}

func (c *core) anchored(era int) bool {
	_, ok := c.eras.anchor(era)
	return ok
}

// sendPresent publishes the newest ticks.
func (c *core) sendPresent(now time.Duration) {
	d := &c.delivery
	if d.past || c.epoch == 0 {
		return
	}
	if c.spool.next > presentTicks {
		d.fresh = max(d.fresh, c.spool.next-presentTicks)
	}
	if len(d.present) == presentFlights || d.last+presentGap > now && d.last > 0 {
		return
	}
	first, count := c.spool.run(d.fresh, c.spool.next, presentTicks, c.anchored)
	if count == 0 {
		return
	}
	b := c.encode(now, &d.report, first, count)
	if !c.publish(b) {
		return
	}
	d.last, d.fresh = now, first+uint64(count)
	d.present = append(d.present, flight{first, count, now + ackTime})
}

// sendBacklog publishes the oldest ticks that are not under way.
func (c *core) sendBacklog(now time.Duration) {
	d := &c.delivery
	if c.epoch == 0 || !c.answered || d.backlog.count > 0 || d.retry > now || len(c.spool.chunks) == 0 {
		return
	}
	b, first, count := c.packBacklog(now)
	if count == 0 || !c.publish(b) {
		return
	}
	wait := ackTime + time.Duration(len(b))*time.Second/backlogRate
	d.backlog = flight{first, count, now + backOff(wait, ackMost, d.attempt)}
}

// packBacklog encodes as many of the oldest ticks as fit backlogSize.
func (c *core) packBacklog(now time.Duration) (b []byte, first uint64, count int) {
	d := &c.delivery
	to := c.spool.next
	if !d.past {
		to = d.fresh
	}
	if len(d.present) > 0 {
		to = min(to, d.present[0].first)
	}
	most := report.MaxTicks
	if d.perTick > 0 {
		most = min(most, max(1, backlogSize/d.perTick))
	}
	first, count = c.spool.run(0, to, most, c.anchored)
	for count > 0 {
		var r report.Report // backlog is rare: its memory is not kept
		b = c.encode(now, &r, first, count)
		d.perTick = (len(b) + count - 1) / count
		if len(b) <= backlogSize || count == 1 {
			break
		}
		count = max(1, min(count-1, backlogSize/d.perTick))
	}
	return b, first, count
}

// encode builds a report of count ticks from first. The result is valid until
// the next call.
func (c *core) encode(now time.Duration, r *report.Report, first uint64, count int) []byte {
	r.Reset()
	r.Session, r.First, r.Due = c.session, first, c.announce(now)
	r.Anchor, _ = c.eras.anchor(c.spool.eraOf(first))
	c.spool.fill(r, first, count)
	c.about.attach(r, first)
	c.delivery.buf = r.Append(c.delivery.buf[:0])
	return c.delivery.buf
}

// announce says when the next report comes, in ms.
func (c *core) announce(now time.Duration) int64 {
	at, _ := c.feed.due(now)
	return min(max(at-now, fast), MaxInterval).Milliseconds()
}

// farewell publishes that the sensor stops on purpose.
func (c *core) farewell() {
	if c.epoch == 0 {
		return
	}
	anchor, _ := c.eras.anchor(c.eras.current())
	r := report.Report{Session: c.session, Anchor: anchor, Goodbye: true, First: c.spool.next}
	c.publish(r.Append(nil))
}
