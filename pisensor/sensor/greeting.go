package sensor

import (
	"math/rand/v2"
	"time"

	"bramble/pisensor/backoff"
	"bramble/pisensor/report"
)

const (
	// helloFirst and helloMax are the shortest and the longest wait for the
	// answer to a hello; it doubles in between.
	helloFirst = time.Second
	helloMax   = 30 * time.Second
	// helloGap keeps a doubt about the clock from becoming traffic.
	helloGap = time.Minute
	// measureGap is how often the collector's clock is measured without a doubt.
	measureGap = time.Hour
	// mutePatience is how many hellos in a row may stay unanswered before the
	// connection itself is tried.
	mutePatience = 2
)

// greeting is the state of asking the collector for its time. Its zero value
// asks at once.
type greeting struct {
	nonce   uint64 // of the last hello, 0 = answered
	sent    time.Duration
	next    time.Duration // not before
	measure time.Duration // even where no answer is needed
	attempt int
}

// answered takes note that the last hello was answered.
func (g *greeting) answered(now time.Duration, settled bool) {
	g.nonce, g.attempt, g.measure = 0, 0, now+backoff.Wait(measureGap, measureGap, 0)
	if g.next = now + helloFirst; settled {
		g.next = now + helloGap
	}
}

// wanted reports whether an answer is needed: on every new connection, and
// while the clock is in doubt.
func (c *core) wanted() bool {
	if c.fixed && c.eras.opened > 0 {
		return !c.answered
	}
	return !c.answered || !c.eras.settled()
}

func (c *core) nextGreeting() time.Duration {
	switch {
	case c.wanted():
		return c.greeting.next
	case c.fixed:
		return never
	}
	return c.greeting.measure
}

// greet says hello when an answer is wanted.
func (c *core) greet(now time.Duration) {
	if c.nextGreeting() > now {
		return
	}
	g := &c.greeting
	h := report.Hello{Session: c.spool.Session(), Nonce: rand.Uint64() | 1}
	if !c.publish(h.Append(c.delivery.buf[:0])) {
		return
	}
	if g.attempt >= mutePatience {
		c.link.Probe()
	}
	g.nonce, g.sent = h.Nonce, now
	g.next = now + backoff.Wait(helloFirst, helloMax, g.attempt)
	g.measure = now + measureGap
	g.attempt++
}

// publish hands a message to the link. After an error the link counts as down
// until it says that it is up again.
func (c *core) publish(b []byte) bool {
	if err := c.link.Publish(b); err != nil {
		c.log.Debug("publish", "err", err)
		c.epoch = 0
		c.delivery.interrupted()
		return false
	}
	return true
}

// begin passes an era that has begun with an answer to the spool and the log.
func (c *core) begin(before, offset int64) {
	c.spool.SetAnchor(c.eras.at)
	if c.eras.opened == 1 {
		c.log.Info("collector answered, clock is anchored", "offset_ms", offset)
		return
	}
	c.log.Warn("clock corrected, new readings belong to a new era", "by_ms", c.eras.at-before)
}
