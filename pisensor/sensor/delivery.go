package sensor

import (
	"math/rand/v2"
	"slices"
	"time"

	"bramble/pisensor/backoff"
	"bramble/pisensor/report"
)

const (
	// ackTime is how long an acknowledgement of a small report may take before
	// the ticks count as backlog: a hundred group commits of the collector.
	ackTime = 5 * time.Second
	// ackSlack is how much later that may be noticed, by a tick that comes
	// anyway: the timer of a wait that mostly ends at once is a wake-up too.
	ackSlack = 6 * time.Second
	// ackMax bounds the wait for a backlog report's acknowledgement.
	ackMax = time.Minute
	// backlogSize is the size that a backlog report aims at, in bytes. Beyond
	// it larger reports save nothing, while the present would have to wait
	// behind them on a link that the collector limits.
	backlogSize = 8 << 10
	// backlogRate is the slowest link that a backlog report's time-out allows
	// for, in bytes per second.
	backlogRate = 2 << 10
	// presentGap is the minimum time between two reports of new ticks, half of the fastest
	// sampling: only a recording played fast comes near it.
	presentGap = 250 * time.Millisecond
	// presentTicks bounds a report of new ticks, presentFlights how many such
	// reports may wait for their acknowledgement: those that do not ask for one, and
	// at 1 Hz those that leave within ackTime and ackSlack behind one that does.
	presentTicks, presentFlights = 32, 32
	// askReports and askTime bound for how many reports of new ticks, and for how long, no
	// acknowledgement is asked for. Each one costs a wake-up and some 60 bytes. Ticks that are not
	// acknowledged stay in the spool and are not lost, but are sent again to a collector that was
	// restarted. A connection that has died silently is found by its writes (vanishedAfter).
	askReports = 15
	askTime    = 150 * time.Second
	// backlogTicks bounds a backlog report, and with it the memory that it
	// takes: at 29 readings in a tick it is full before.
	backlogTicks = 256
	// crowd is a backlog, in readings, that is worth spreading: boards that
	// were all away begin it within crowdSpread.
	crowd       = 2000
	crowdSpread = 10 * time.Second
)

// flight is a published report that waits for its acknowledgement.
type flight struct {
	first    uint64
	count    int
	sent     time.Duration
	deadline time.Duration // never = no acknowledgement is asked for yet
}

// delivery is the state of publishing: new ticks go out at once in small reports; ticks that are
// not acknowledged in time are backlog, of which one large report at a time is in flight, behind
// the present.
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
	bulky   bool // report and buf have grown for a backlog
}

// interrupted forgets the reports in flight: the connection is gone.
func (d *delivery) interrupted() {
	d.present, d.backlog.count = d.present[:0], 0
}

// connected spreads the start of a large backlog: ten thousand boards may have
// come back in the same seconds.
func (d *delivery) connected(now time.Duration, waiting int) {
	if !d.past && waiting > crowd {
		d.retry = now + rand.N(crowdSpread)
	}
}

// expire turns reports whose acknowledgement is overdue into backlog. The
// collector may be slow, or its host may have vanished without a word, so the
// connection is tried.
func (d *delivery) expire(now time.Duration, c *core) {
	before := len(d.present)
	for len(d.present) > 0 && d.present[0].deadline <= now {
		c.about.lost(d.present[0].first)
		d.present = slices.Delete(d.present, 0, 1)
	}
	if len(d.present) < before || d.backlog.count > 0 && d.backlog.deadline <= now {
		c.link.Probe()
	}
	if d.backlog.count > 0 && d.backlog.deadline <= now {
		c.about.lost(d.backlog.first)
		d.backlog.count = 0
		d.retry = now + backoff.Wait(helloFirst, helloMax, d.attempt)
		d.attempt++
	}
}

// acknowledged removes the flights that have arrived.
func (d *delivery) acknowledged(now time.Duration, c *core) {
	d.present = slices.DeleteFunc(d.present, func(f flight) bool { return !c.spool.Waits(f.first, f.count) })
	if d.backlog.count > 0 && !c.spool.Waits(d.backlog.first, d.backlog.count) {
		d.backlog.count, d.attempt, d.retry = 0, 0, now
	}
	if d.bulky && c.spool.Empty() { // backlog is rare: its memory is not kept
		d.report, d.buf, d.bulky = report.Report{}, nil, false
	}
}

// next returns when delivery has something to do again, where the next tick
// comes at tick.
func (d *delivery) next(now, tick time.Duration, c *core) time.Duration {
	at := never
	if len(d.present) > 0 && d.present[0].deadline < tick-ackSlack {
		at = d.present[0].deadline
	}
	if d.backlog.count > 0 {
		return min(at, d.backlog.deadline)
	}
	if d.retry > now && c.answered && !c.spool.Empty() {
		at = min(at, d.retry)
	}
	if !d.past && d.last+presentGap > now && d.fresh < c.spool.Next() {
		at = min(at, d.last+presentGap)
	}
	return at
}

// sendPresent publishes the newest ticks.
func (c *core) sendPresent(now time.Duration) {
	d := &c.delivery
	if d.past || c.epoch == 0 {
		return
	}
	if c.spool.Next() > presentTicks {
		d.fresh = max(d.fresh, c.spool.Next()-presentTicks)
	}
	if len(d.present) == presentFlights || d.last+presentGap > now && d.last > 0 {
		return
	}
	first, count := c.spool.Run(d.fresh, c.spool.Next(), presentTicks)
	if count == 0 {
		return
	}
	ask := c.asks(now)
	b := c.encode(now, &d.report, first, count, !ask)
	if !c.publish(b) {
		return
	}
	d.last, d.fresh = now, first+uint64(count)
	d.present = append(d.present, flight{first, count, now, never})
	if ask {
		d.expect(now + ackTime)
	}
}

// asks reports whether the next report of new ticks asks for the
// acknowledgement of all that wait for one: else the one after it would be late.
func (c *core) asks(now time.Duration) bool {
	d := &c.delivery
	next, more := c.feed.due(now)
	since, waiting := now, 1
	for i := range d.present {
		if d.present[i].deadline == never {
			since, waiting = min(since, d.present[i].sent), waiting+1
		}
	}
	return !more || c.stopping || c.about.pending || waiting >= askReports || next-since > askTime
}

// expect sets the deadline of the acknowledgement that covers all reports so far.
func (d *delivery) expect(deadline time.Duration) {
	for i := range d.present {
		d.present[i].deadline = min(d.present[i].deadline, deadline)
	}
}

// sendBacklog publishes the oldest ticks that are not under way.
func (c *core) sendBacklog(now time.Duration) {
	d := &c.delivery
	if c.epoch == 0 || !c.answered || d.backlog.count > 0 || d.retry > now || c.spool.Empty() {
		return
	}
	b, first, count := c.packBacklog(now)
	if count == 0 || !c.publish(b) {
		return
	}
	wait := ackTime + time.Duration(len(b))*time.Second/backlogRate
	d.backlog = flight{first, count, now, now + backoff.Wait(wait, ackMax, d.attempt)}
}

// packBacklog encodes as many of the oldest ticks as fit backlogSize.
func (c *core) packBacklog(now time.Duration) (b []byte, first uint64, count int) {
	d := &c.delivery
	to := c.spool.Next()
	if !d.past {
		to = d.fresh
	}
	if len(d.present) > 0 {
		to = min(to, d.present[0].first)
	}
	limit := backlogTicks
	if d.perTick > 0 {
		limit = min(limit, max(1, backlogSize/d.perTick))
	}
	first, count = c.spool.Run(0, to, limit)
	for count > 0 {
		b = c.encode(now, &d.report, first, count, false)
		d.bulky = true
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
func (c *core) encode(now time.Duration, r *report.Report, first uint64, count int, ackLater bool) []byte {
	r.Reset()
	r.Due, r.AckLater = c.announce(now), ackLater
	if c.stopping {
		r.Goodbye, c.goodbyeEpoch = true, c.epoch
	}
	c.spool.Fill(r, first, count)
	c.about.attach(r, first)
	c.delivery.buf = r.Append(c.delivery.buf[:0])
	return c.delivery.buf
}

// announce says when the next report comes, in ms.
func (c *core) announce(now time.Duration) int64 {
	at, _ := c.feed.due(now)
	return min(max(at-now, fast), MaxInterval).Milliseconds()
}
