package sensor

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"bramble/pisensor/report"
)

// never is an instant that does not come.
const never = time.Duration(math.MaxInt64)

// drainTime is how long a stopping sensor waits for the last acknowledgements.
const drainTime = 2 * time.Second

// link carries messages to the collector.
type link interface {
	// Epoch returns 0 while there is no connection, else its number: another
	// number is another connection.
	Epoch() uint64
	Publish([]byte) error
}

// core is the sensor between its feed and its link. One goroutine owns it.
// Every decision follows from its state and the time that is passed in.
type core struct {
	o       *Options
	log     *slog.Logger
	session uint32

	feed    feed
	sampler *sampler // the feed, where it is one: what control messages adapt
	block   bool     // a full spool holds the feed back; else it drops its oldest
	fixed   bool     // the first anchor holds for ever: a recording's spacing counts

	eras  eras
	spool *spool
	tick  report.Tick

	link     link
	epoch    uint64 // of the connection in use, 0 = none
	answered bool   // the collector has answered on this connection
	greeting greeting
	delivery delivery
	about    description

	refused [2]int64 // malformed messages, by refusedAck and refusedControl
	dropped uint64   // that were logged
}

// Kinds of refused messages, which index core.refused.
const (
	refusedAck = iota
	refusedControl
)

var refusedNames = [2]string{"ack", "control"}

func newCore(o *Options, f feed) *core {
	c := &core{o: o, log: o.Log.With("board", o.Board), feed: f, spool: newSpool(o.SpoolBytes)}
	for c.session == 0 {
		c.session = rand.Uint32()
	}
	c.sampler, _ = f.(*sampler)
	c.about.read = o.Attributes
	return c
}

// run works until ctx ends or the feed and the spool are empty. It reports
// whether every tick was acknowledged.
func (c *core) run(ctx context.Context, l link, messages <-chan *nats.Msg, changed <-chan struct{}) bool {
	c.link = l
	timer := time.NewTimer(0)
	defer timer.Stop()
	done, deadline := ctx.Done(), never
	for {
		now := c.o.Uptime()
		c.connection(now)
		c.step(now)
		if c.finished(now, deadline) {
			c.farewell()
			return len(c.spool.chunks) == 0
		}
		timer.Reset(min(c.next(now), deadline) - now)
		select {
		case <-timer.C:
		case m := <-messages:
			c.receive(c.o.Uptime(), m)
		case <-changed:
		case <-c.o.Wake:
			if c.sampler != nil {
				c.sampler.call(c.o.Uptime())
			}
		case <-done:
			done, deadline = nil, c.o.Uptime()+drainTime
			c.feed = ended{}
		}
	}
}

// finished reports that there is nothing left to do, or no time left for it.
func (c *core) finished(now, deadline time.Duration) bool {
	if _, more := c.feed.due(now); more {
		return false
	}
	return len(c.spool.chunks) == 0 || now >= deadline || deadline != never && c.epoch == 0
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
	c.sendBacklog(now)
}

// next returns when step has something to do again.
func (c *core) next(now time.Duration) time.Duration {
	at := c.nextTick(now)
	if c.epoch != 0 {
		at = min(at, c.nextGreeting(), c.delivery.next(now, c))
	}
	return at
}

func (c *core) nextTick(now time.Duration) time.Duration {
	at, more := c.feed.due(now)
	if !more || c.block && !c.spool.room() {
		return never
	}
	return at
}

// sample takes the ticks that are due: one for a board, any number for a recording.
func (c *core) sample(now time.Duration) {
	for range chunkTicks {
		if c.nextTick(now) > now {
			return
		}
		c.tick.Reset()
		at := c.feed.take(now, &c.tick)
		c.addOwn()
		c.spool.add(c.eras.current(), at.Milliseconds(), c.tick.Readings)
		if c.sampler != nil {
			c.eras.looked(now.Milliseconds(), c.o.Wall().UnixMilli())
			c.about.look(now)
			c.logDropped()
			return
		}
	}
}

// addOwn adds what the sensor knows about itself.
func (c *core) addOwn() {
	for kind, n := range c.refused {
		if n > 0 {
			c.tick.AddInstance(report.SensorReadErrors, refusedNames[kind], n)
		}
	}
	if c.o.OwnSeries {
		c.tick.Add(report.SensorSpool, int64(c.spool.readings))
		c.tick.Add(report.SensorDropped, int64(c.spool.dropped))
	}
}

func (c *core) logDropped() {
	if c.dropped == 0 && c.spool.dropped > 0 && len(c.spool.chunks) == c.spool.limit {
		c.log.Warn("spool is full, oldest readings are dropped and counted", "bytes", c.o.SpoolBytes)
	}
	c.dropped = c.spool.dropped
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

func (c *core) control(now time.Duration, b []byte) {
	m, err := report.DecodeControl(b)
	if err != nil {
		c.refuse(refusedControl, err)
		return
	}
	if c.sampler == nil {
		return
	}
	if m.Lease > 0 && now >= c.sampler.lease {
		c.log.Info("live mode: somebody watches this board", "watchers", m.Watchers)
	}
	c.sampler.control(now, m)
}

func (c *core) refuse(kind int, err error) {
	if c.refused[kind] == 0 {
		c.log.Warn("refused a message, further ones are only counted", "kind", refusedNames[kind], "error", err)
	}
	c.refused[kind]++
}

func (c *core) acknowledge(now time.Duration, b []byte) {
	a, err := report.DecodeAck(b)
	if err != nil {
		c.refuse(refusedAck, err)
		return
	}
	if a.Session != c.session {
		return // meant for an earlier process of this board
	}
	c.answered = true
	for _, r := range a.Ranges {
		c.spool.ack(r)
	}
	c.delivery.acknowledged(now, c)
	c.about.acknowledged(now, c.spool)
	c.tell(now, a)
}

// tell passes the collector's time on to the eras.
func (c *core) tell(now time.Duration, a report.Ack) {
	uptime, wall := now.Milliseconds(), c.o.Wall().UnixMilli()
	switch {
	case c.fixed && len(c.eras.anchors) > 0:
	case a.Nonce == 0:
		c.eras.heard(a.Time, uptime)
	case a.Nonce == c.greeting.nonce:
		first := len(c.eras.anchors) == 0
		c.eras.answered(a.Time, (now - c.greeting.sent).Milliseconds(), uptime, wall)
		c.logEra(first, a.Time-wall)
		c.greeting.answered(now, c.eras.settled())
	}
}
