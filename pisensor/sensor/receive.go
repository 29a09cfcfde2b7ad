package sensor

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"bramble/pisensor/report"
)

// controlSubject starts the subject of every control message (report.ControlSubject).
var controlSubject = report.ControlSubject("")

// Kinds of refused input; these index core.refused.
const (
	refusedAck = iota
	refusedControl
	refusedSpool
)

var refusedNames = [3]string{"ack", "control", "spool"}

// receive takes a message from the collector.
func (c *core) receive(now time.Duration, m *nats.Msg) {
	if strings.HasPrefix(m.Subject, controlSubject) {
		c.control(now, m.Data)
		return
	}
	c.acknowledge(now, m.Data)
}

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
	c.learnTime(now, a)
}

// learnTime passes the collector's time on to the eras.
func (c *core) learnTime(now time.Duration, a *report.Ack) {
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

func (c *core) refuse(kind int, n int64, err error) {
	if c.refused[kind] == 0 {
		c.log.Warn("refused a message, further ones are only counted", "kind", refusedNames[kind], "err", err)
	}
	c.refused[kind] += n
}
