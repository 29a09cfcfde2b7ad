package sensor

import (
	"context"
	"log/slog"
	"math"
	"strings"
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

// minBeat keeps a supervisor from keeping the loop awake.
const minBeat = 100 * time.Millisecond

// ownGap is how often a tick says how the clock and the spool are.
const ownGap = time.Minute

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
	sampler *sampler // the feed, where it is one: what control messages adapt
	block   bool     // a full spool holds the feed back; else it drops its oldest
	fixed   bool     // the first anchor holds for ever: a recording's spacing counts

	eras  eras
	spool *spool.Spool
	tick  report.Tick

	link     link
	epoch    uint64 // of the connection in use, 0 = none
	answered bool   // the collector has answered on this connection
	greeting greeting
	delivery delivery
	about    description
	stopping bool   // ticks have ended: every report says goodbye
	parted   uint64 // connection on which one did

	refused [3]int64 // by what is refused
	dropped uint64   // that were logged
	ownAt   time.Duration
	live    live
	tight   bool // the log knows that the budget holds the sensor back
	heavy   bool // the log knows that it takes more memory than it should
	ack     report.Ack
}

// What can be refused; these index core.refused.
const (
	refusedAck = iota
	refusedControl
	refusedSpool
)

var refusedNames = [3]string{"ack", "control", "spool"}

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

// resume goes on where the spool's earlier process stopped: what it holds is
// backlog, and its era holds on.
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
	alarm := c.alarm()
	defer alarm.close()
	armed := never // for when the alarm is set
	done, deadline := ctx.Done(), never
	for {
		now := c.o.Uptime()
		c.connection(now)
		c.step(now)
		beat := c.beat(now)
		if c.finished(now, deadline) {
			c.farewell(now)
			return c.spool.Empty()
		}
		if at := min(c.next(now), beat, deadline); at != armed {
			alarm.set(at - now)
			armed = at
		}
		select {
		case <-alarm.rings():
			armed = never
		case m := <-messages:
			c.receive(c.o.Uptime(), m)
		case <-changed:
		case _, open := <-c.wake():
			c.woken(c.o.Uptime(), open)
		case <-done:
			done, deadline = nil, c.o.Uptime()+drainTime
			c.feed, c.stopping = ended{}, true
		}
	}
}

// alarm returns one that fits the clock.
func (c *core) alarm() alarm {
	if c.o.boottime {
		return newAlarm()
	}
	return newGoAlarm()
}

// wake returns where the hardware calls. While a call waits for its turn there
// is nothing more to hear.
func (c *core) wake() <-chan struct{} {
	if c.sampler == nil || c.sampler.eventIsDue || c.stopping {
		return nil
	}
	return c.o.Wake
}

func (c *core) woken(now time.Duration, open bool) {
	if !open {
		c.o.Wake = nil
		return
	}
	c.sampler.call(now)
}

// beat tells the supervisor that the loop runs, and returns when it must hear
// so again.
func (c *core) beat(now time.Duration) time.Duration {
	if c.o.Beat == nil {
		return never
	}
	h := Health{Connected: c.epoch != 0, Waiting: c.spool.Readings(), Stopping: c.stopping}
	if c.sampler != nil {
		h.Interval = c.sampler.current(now)
		if c.live.on {
			h.Watchers = c.live.watchers
		}
	}
	return now + max(c.o.Beat(h), minBeat)
}

// finished reports that there is nothing left to do, or no time left for it.
func (c *core) finished(now, deadline time.Duration) bool {
	if _, more := c.feed.due(now); more {
		return false
	}
	return c.spool.Empty() || now >= deadline || deadline != never && c.epoch == 0
}

// ended is the feed of a sensor that stops.
type ended struct{}

func (ended) due(time.Duration) (time.Duration, bool)              { return never, false }
func (ended) take(now time.Duration, _ *report.Tick) time.Duration { return now }

// step does what is due now.
func (c *core) step(now time.Duration) {
	c.sample(now)
	c.delivery.expire(now, c)
	if c.epoch == 0 {
		return
	}
	c.greet(now)
	c.sendPresent(now)
	if c.stopping {
		c.part()
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
	if !more || c.block && !c.spool.Room() {
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

// addOwn adds what the sensor knows about itself.
func (c *core) addOwn(now time.Duration, wall int64) {
	for kind, n := range c.refused {
		if n > 0 {
			c.tick.AddInstance(report.SensorReadErrors, refusedNames[kind], n)
		}
	}
	if !c.o.OwnSeries {
		return
	}
	c.tick.Add(report.SensorSpool, int64(c.spool.Readings()))
	c.tick.Add(report.SensorDropped, int64(c.spool.Dropped()))
	if c.ownAt != 0 && now-c.ownAt < ownGap {
		return
	}
	if offset, ok := c.eras.offset(now.Milliseconds(), wall); ok {
		c.ownAt = now
		c.tick.Add(report.ClockOffset, offset)
	}
}

func (c *core) logDropped() {
	dropped := c.spool.Dropped()
	if c.dropped == 0 && dropped > 0 && c.spool.Full() {
		c.log.Warn("spool is full, oldest readings are dropped and counted", "bytes", c.o.SpoolBytes)
	}
	c.dropped = dropped
}

// logBudget says once that the budget holds the sensor back, and once that it
// no longer does. Memory beyond the budget is said once and for all.
func (c *core) logBudget() {
	b := &c.sampler.budget
	if b.memory > budgetMemory && !c.heavy {
		c.heavy = true
		c.log.Warn("this sensor takes more memory than its budget", "bytes", b.memory, "budget", budgetMemory)
	}
	if b.over() == c.tight {
		return
	}
	if c.tight = b.over(); !c.tight {
		c.log.Info("within the budget again, sampling as before")
		return
	}
	c.log.Warn("this sensor costs more than its budget, so it samples less often where it may",
		"cpu_percent", math.Round(b.share*1e4)/100, "wakeups_per_second", math.Round(b.wakeups*100)/100)
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

// receive takes a message from the collector.
func (c *core) receive(now time.Duration, m *nats.Msg) {
	if strings.HasPrefix(m.Subject, controlSubject) {
		c.control(now, m.Data)
		return
	}
	c.acknowledge(now, m.Data)
}

// controlSubject starts the subject of every control message (report.ControlSubject).
var controlSubject = report.ControlSubject("")

func (c *core) acknowledge(now time.Duration, b []byte) {
	a := &c.ack
	if err := a.Decode(b); err != nil {
		c.refuse(refusedAck, 1, err)
		return
	}
	if a.Session != c.spool.Session() {
		return // meant for an earlier process of this board
	}
	c.answered = true
	for _, r := range a.Ranges {
		c.spool.Ack(r)
	}
	c.delivery.acknowledged(now, c)
	c.about.acknowledged(now, c.spool)
	c.tell(now, a)
}

// tell passes the collector's time on to the eras.
func (c *core) tell(now time.Duration, a *report.Ack) {
	uptime := now.Milliseconds()
	switch {
	case c.fixed && c.eras.opened > 0:
	case a.Nonce == 0:
		c.eras.heard(a.Time, uptime)
	case a.Nonce == c.greeting.nonce:
		before, wall := c.eras.at, c.o.Wall().UnixMilli()
		if c.eras.answered(a.Time, (now - c.greeting.sent).Milliseconds(), uptime, wall) {
			c.begin(before, a.Time-wall)
		}
		c.greeting.answered(now, c.eras.settled())
	}
}
