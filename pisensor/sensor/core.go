package sensor

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/nats-io/nats.go"

	"bramble/pisensor/report"
	"bramble/pisensor/spool"
)

// never is an instant that does not come.
const never = time.Duration(math.MaxInt64)

// drainTime is how long a stopping sensor waits for the last acknowledgements.
const drainTime = 2 * time.Second

// burst bounds the ticks that are taken at once: a recording has any number.
const burst = 256

// link carries messages to the collector.
type link interface {
	// Epoch returns 0 while there is no connection, else its number: another
	// number is another connection.
	Epoch() uint64
	Publish([]byte) error
	// Probe tries whether the connection still leads anywhere, and replaces it
	// where not. It does not wait for that.
	Probe()
}

// core is the sensor between its feed and its link. One goroutine owns it.
// Every decision follows from its state and the time that is passed in.
type core struct {
	o   *Options
	log *slog.Logger

	feed    feed
	sampler *sampler // the feed, where it is one: control messages adapt it
	block   bool     // a full spool holds the feed back; else it drops its oldest
	fixed   bool     // the first anchor holds for ever: a recording's spacing counts

	eras  eras
	spool *spool.Spool
	tick  report.Tick

	link         link
	epoch        uint64 // of the connection in use, 0 = none
	answered     bool   // the collector has answered on this connection
	greeting     greeting
	delivery     delivery
	about        description
	stopping     bool          // ticks have ended: every report says goodbye
	deadline     time.Duration // of a sensor that stops, else never
	goodbyeEpoch uint64        // connection on which the goodbye was sent, 0 = none

	refused [3]int64 // by kind: refusedAck, refusedControl, refusedSpool
	dropped uint64   // that were logged
	ownAt   time.Duration
	live    live
	tight   bool // the log knows that the budget holds the sensor back
	heavy   bool // the log knows that it takes more memory than it should
	ack     report.Ack
}

func newCore(o *Options, f feed) *core {
	c := &core{o: o, log: o.Log.With("board", o.Board), feed: f, spool: o.Spool}
	if c.spool == nil {
		c.spool = spool.New(o.SpoolBytes)
	}
	c.sampler, _ = f.(*sampler)
	c.about.read = o.Attributes
	c.resume()
	return c
}

// resume goes on where the spool's earlier process stopped: its ticks are backlog, and its era
// holds on.
func (c *core) resume() {
	c.refused[refusedSpool] = c.spool.Refused()
	c.delivery.fresh = c.spool.Next()
	if a, ok := c.spool.Anchor(); ok {
		c.eras.open(a, c.o.Wall().UnixMilli()-c.o.Uptime().Milliseconds())
	}
	if c.sampler != nil && c.spool.Last() > 0 {
		c.sampler.last = time.Duration(c.spool.Last()) * time.Millisecond
	}
	if n := c.spool.Readings(); n > 0 {
		c.log.Info("took over what an earlier process left", "readings", n, "session", c.spool.Session())
	}
}

// run works until ctx ends or the feed and the spool are empty. It reports
// whether every tick was acknowledged.
func (c *core) run(ctx context.Context, l link, messages <-chan *nats.Msg, changed <-chan struct{}) bool {
	c.link = l
	c.deadline = never
	alarm := c.alarm()
	defer alarm.close()
	events := c.listen(ctx, alarm.signal, messages, changed)
	defer events.close()
	for {
		now := c.o.Uptime()
		c.connection(now)
		c.step(now)
		heartbeat := c.heartbeat(now)
		if c.finished(now) {
			c.shutdown(now)
			return c.spool.Empty()
		}
		if !c.poll(events) {
			alarm.wait(min(c.next(now), heartbeat, c.deadline) - now)
		}
	}
}

// finished reports that there is nothing left to do, or no time left for it.
func (c *core) finished(now time.Duration) bool {
	if _, more := c.feed.due(now); more {
		return false
	}
	return c.spool.Empty() || now >= c.deadline || c.deadline != never && c.epoch == 0
}

// ended is the feed of a sensor that stops.
type ended struct{}

func (ended) due(time.Duration) (time.Duration, bool)              { return never, false }
func (ended) take(now time.Duration, _ *report.Tick) time.Duration { return now }

// step takes, sends and expires everything that is due now.
func (c *core) step(now time.Duration) {
	c.sample(now)
	c.delivery.expire(now, c)
	if c.epoch == 0 {
		return
	}
	c.greet(now)
	c.sendPresent(now)
	if c.stopping {
		c.sendGoodbye()
	}
	c.sendBacklog(now)
}

// next returns when step has something to do again.
func (c *core) next(now time.Duration) time.Duration {
	at := c.nextTick(now)
	if c.epoch != 0 {
		at = min(at, c.nextGreeting(), c.delivery.next(now, at, c))
	}
	return at
}

func (c *core) nextTick(now time.Duration) time.Duration {
	at, more := c.feed.due(now)
	if !more || c.block && !c.spool.HasSpace() {
		return never
	}
	return at
}

// sample takes the ticks that are due: one for a board, any number for a recording.
func (c *core) sample(now time.Duration) {
	for range burst {
		if c.nextTick(now) > now {
			return
		}
		c.tick.Reset()
		at := c.feed.take(now, &c.tick)
		wall := c.o.Wall().UnixMilli()
		c.addOwn(now, wall)
		c.spool.Add(at.Milliseconds(), c.tick.Readings)
		if c.sampler != nil {
			c.afterTick(now, wall)
			return
		}
	}
}

// afterTick looks around once the board's readings are safe.
func (c *core) afterTick(now time.Duration, wall int64) {
	c.eras.looked(now.Milliseconds(), wall)
	if c.about.look(now) {
		c.sampler.limits = limitsOf(c.about.model())
	}
	c.logDropped()
	c.logBudget()
	c.endLease(now)
}

// connection takes note of a connection that came or went.
func (c *core) connection(now time.Duration) {
	epoch := c.link.Epoch()
	if epoch == c.epoch {
		return
	}
	c.epoch, c.answered = epoch, false
	c.delivery.interrupted()
	if epoch == 0 {
		return
	}
	c.delivery.connected(now, c.spool.Readings())
	c.greeting = greeting{next: now}
	c.about.pending = len(c.about.current) > 0
}
