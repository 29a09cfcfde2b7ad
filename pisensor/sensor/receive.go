package sensor

import (
	"fmt"
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

// maxLease caps one lease; a viewer who stays renews it.
const maxLease = time.Minute

// request is a control message within the board's caps.
type request struct {
	lease    time.Duration // 0 = none
	watchers uint64
	setLines bool
	lines    []int64 // temperatures in m°C
}

// allow applies the board's caps to a control message. refused counts the parts that go beyond
// them: a lease is cut to maxLease, and a line that no board can reach, or on a metric that this
// build does not know, is left out; the rest holds, since a collector may be newer than the board.
// An error means that the message as a whole is refused: no real collector sends it.
//
// Lines on metrics other than the temperature are allowed and change nothing:
// these are decided within an interval.
func allow(c *report.Control) (q request, refused int64, err error) {
	if len(c.Lines) > report.MaxLines {
		return request{}, 0, fmt.Errorf("%d lines, at most %d are taken", len(c.Lines), report.MaxLines)
	}
	if c.Watchers > report.MaxWatchers {
		return request{}, 0, fmt.Errorf("%d watchers, at most %d are taken", c.Watchers, report.MaxWatchers)
	}
	q = request{lease: time.Duration(min(c.Lease, maxLease.Milliseconds())) * time.Millisecond, watchers: c.Watchers, setLines: c.SetLines}
	if c.Lease > maxLease.Milliseconds() {
		refused++
	}
	for _, l := range c.Lines {
		d := report.Define(l.Metric)
		switch {
		case d == nil || l.Level < d.Min || l.Level > d.Max:
			refused++
		case l.Metric == report.SOCTemperature:
			q.lines = append(q.lines, l.Level)
		}
	}
	return q, refused, nil
}

// live is the log's view of live mode.
type live struct {
	on       bool
	watchers uint64
}

func (c *core) control(now time.Duration, b []byte) {
	m, err := report.DecodeControl(b)
	if err != nil {
		c.refuse(refusedControl, 1, err)
		return
	}
	q, refused, err := allow(&m)
	if err != nil {
		c.refuse(refusedControl, 1, err)
		return
	}
	if refused > 0 {
		c.refuse(refusedControl, refused, fmt.Errorf("a lease of %d ms and %d lines go beyond what the board allows in %d places", m.Lease, len(m.Lines), refused))
	}
	if c.sampler == nil {
		return
	}
	c.sampler.control(now, q)
	if q.lease > 0 && (!c.live.on || c.live.watchers != q.watchers) {
		c.live = live{on: true, watchers: q.watchers}
		c.log.Info("live mode: this board is being watched", "watchers", q.watchers)
	}
}

// endLease says when nobody looks any more.
func (c *core) endLease(now time.Duration) {
	if c.live.on && now >= c.sampler.lease {
		c.live = live{}
		c.log.Info("live mode has ended: nobody watches this board")
	}
}
