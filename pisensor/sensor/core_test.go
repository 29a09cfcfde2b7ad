package sensor

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"bramble/pisensor/report"
	"bramble/pisensor/spool"
)

func TestTicksOnAnEvenGrid(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.connect(true)
		_, stop := b.start(b.options(&readings{n: 4}))
		pass(10 * time.Minute)
		stop()
		if n := len(b.ticks); n < 60 || n > 62 {
			t.Errorf("%d ticks in 10 min", n)
		}
		for n := uint64(3); n < uint64(len(b.ticks)); n++ {
			if step := b.ticks[n] - b.ticks[n-1]; step != 10_000 {
				t.Errorf("step of %d ms at tick %d", step, n)
			}
		}
		if b.repeated != 0 || b.hellos != 1 {
			t.Errorf("%d readings sent again, %d hellos", b.repeated, b.hellos)
		}
		last := b.reports[len(b.reports)-1]
		if !last.Goodbye {
			t.Error("no goodbye")
		}
	})
}

func TestOutageOfADay(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.connect(true)
		c, stop := b.start(b.options(&readings{n: 15}))
		pass(time.Minute)
		b.connect(false)
		pass(24 * time.Hour)
		if c.spool.Dropped() > 0 {
			t.Errorf("%d readings dropped", c.spool.Dropped())
		}
		t.Logf("24 h: %d readings", c.spool.Readings())
		before := b.published()
		b.connect(true)
		pass(time.Minute)
		stop()
		checkComplete(t, b, c)
		checkBacklog(t, b, before)
	})
}

// checkComplete wants every tick that was taken, once.
func checkComplete(t *testing.T, b *bench, c *core) {
	t.Helper()
	for n := uint64(1); n < c.spool.Next(); n++ {
		if _, ok := b.ticks[n]; !ok {
			t.Fatalf("tick %d of %d is missing", n, c.spool.Next()-1)
		}
	}
}

// checkBacklog wants the present first, then the backlog in order, in large
// reports one at a time.
func checkBacklog(t *testing.T, b *bench, before int) {
	t.Helper()
	after := b.reports[before:]
	newest := after[0].First + uint64(after[0].Ticks())
	if after[0].Ticks() > presentTicks {
		t.Errorf("first report after the outage has %d ticks", after[0].Ticks())
	}
	var firsts []uint64
	readings, bytes, large := 0, 0, 0
	for i, r := range after {
		if r.First < newest && r.Ticks() > presentTicks {
			firsts = append(firsts, r.First)
			readings, bytes, large = readings+r.Readings(), bytes+b.sizes[before+i], large+1
		}
		if b.sizes[before+i] > backlogSize {
			t.Errorf("report of %d bytes", b.sizes[before+i])
		}
	}
	if !slices.IsSorted(firsts) || len(firsts) == 0 {
		t.Errorf("backlog came in the order %d", firsts)
	}
	t.Logf("backlog: %d reports, %d readings, %.2f bytes a reading", large, readings, float64(bytes)/float64(max(readings, 1)))
}

func TestFullSpoolDropsOldestAndCounts(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		o := b.options(&readings{n: 15})
		o.SpoolBytes = spool.MinBytes
		o.OwnSeries = true
		b.connect(true)
		c, stop := b.start(o)
		pass(time.Minute)
		b.connect(false)
		pass(24 * time.Hour)
		b.connect(true)
		pass(2 * time.Minute)
		stop()
		missing := 0
		for n := uint64(1); n < c.spool.Next(); n++ {
			if _, ok := b.ticks[n]; !ok {
				missing++
				if n < 7 {
					t.Errorf("tick %d was acknowledged and is missing", n)
				}
			}
		}
		// 17 readings a tick, and the clock's offset once a minute while it is known. The
		// last reports before the outage arrived, and had asked for no ack: counted, too.
		beyond := c.spool.Dropped() - uint64(missing)*17
		if missing == 0 || beyond > uint64(known/ownGap)+18*(askReports-1) {
			t.Errorf("%d ticks of 17 readings are missing, %d readings counted", missing, c.spool.Dropped())
		}
	})
}

func TestLostAcks(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.loses = func(n int) bool { return n%3 == 0 }
		b.connect(true)
		c, stop := b.start(b.options(&readings{n: 10}))
		for range 20 {
			pass(3 * time.Minute)
			b.connect(false)
			pass(time.Minute)
			b.connect(true)
		}
		b.do(func() { b.loses = nil })
		pass(5 * time.Minute)
		if c.spool.Readings() > 10*(askReports-1) {
			t.Errorf("%d readings still wait", c.spool.Readings())
		}
		if b.repeated == 0 {
			t.Error("nothing was sent again, so that this test proves nothing")
		}
		stop()
		checkComplete(t, b, c)
	})
}

func TestSilentCollectorIsNotFlooded(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.connect(true)
		_, stop := b.start(b.options(&readings{n: 10}))
		pass(time.Minute)
		b.do(func() { b.answers = false })
		before := b.published()
		pass(time.Hour)
		sent := b.published() - before
		stop()
		if sent < 360 || sent > 360+240 {
			t.Errorf("%d reports in an hour of 360 ticks", sent)
		}
	})
}

func TestReadingsWaitForTheFirstAnchor(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.answers, b.wallSkew = false, -56*365*24*time.Hour // 1970
		b.connect(true)
		c, stop := b.start(b.options(&readings{n: 4}))
		pass(5 * time.Minute)
		if len(b.reports) > 0 || b.hellos < 5 || b.hellos > 30 {
			t.Errorf("%d reports and %d hellos before the first answer", len(b.reports), b.hellos)
		}
		b.do(func() { b.answers = true })
		pass(2 * time.Minute)
		stop()
		checkComplete(t, b, c)
		checkTimes(t, b, 0)
	})
}

// checkTimes wants every tick within a second of the bubble's true time.
func checkTimes(t *testing.T, b *bench, skew time.Duration) {
	t.Helper()
	from, to := b.began.Add(skew).UnixMilli()-1000, time.Now().Add(skew).UnixMilli()+1000
	for n, at := range b.ticks {
		if at < from || at > to {
			t.Fatalf("tick %d at %v", n, time.UnixMilli(at))
		}
	}
}

func TestClockStepsDoNotMoveReadings(t *testing.T) {
	for _, step := range []time.Duration{-365 * 24 * time.Hour, 24 * time.Hour, 300 * time.Millisecond} {
		bubble(t, func(t *testing.T, b *bench) {
			b.connect(true)
			c, stop := b.start(b.options(&readings{n: 4}))
			pass(time.Minute)
			b.do(func() { b.wallSkew = step })
			pass(10 * time.Minute)
			stop()
			checkComplete(t, b, c)
			checkTimes(t, b, 0)
			if c.eras.opened != 1 {
				t.Errorf("step of %v: %d eras", step, c.eras.opened)
			}
			if b.hellos > 5 {
				t.Errorf("step of %v: %d hellos", step, b.hellos)
			}
		})
	}
}

func TestCorrectionOpensANewEra(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.wallSkew, b.skew = 2*time.Second, 2*time.Second // both wrong alike, at first
		b.connect(true)
		_, stop := b.start(b.options(&readings{n: 4}))
		pass(time.Minute)
		old := b.ticks[2]
		b.do(func() { b.wallSkew, b.skew = 0, 0 })
		pass(10 * time.Minute)
		stop()
		var anchors []int64
		for _, r := range b.reports {
			if !slices.Contains(anchors, r.Anchor) {
				anchors = append(anchors, r.Anchor)
			}
		}
		if len(anchors) != 2 || anchors[0]-anchors[1] != 2000 {
			t.Errorf("anchors %d", anchors)
		}
		if b.ticks[2] != old {
			t.Error("an old tick moved")
		}
	})
}

func TestOneDelayedAckProvesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.connect(true)
		c, stop := b.start(b.options(&readings{n: 4}))
		pass(time.Minute)
		n := 0
		b.do(func() {
			b.delay = func() time.Duration {
				if n++; n < 4 {
					return 4 * time.Second
				}
				return 20 * time.Millisecond
			}
		})
		pass(10 * time.Minute)
		stop()
		if c.eras.opened != 1 {
			t.Errorf("%d eras", c.eras.opened)
		}
		checkComplete(t, b, c)
	})
}

func TestLeaseEndsByItself(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.connect(true)
		_, stop := b.start(b.options(&readings{n: 4}))
		pass(time.Minute)
		before := b.taken()
		lease := report.Control{Lease: (time.Hour).Milliseconds(), Watchers: 1}
		b.send(report.ControlSubject("b1"), lease.Append(nil))
		pass(time.Minute + time.Second)
		live := b.taken() - before
		pass(time.Minute)
		calm := b.taken() - before - live
		stop()
		if live < 60 || live > 63 || calm > 7 {
			t.Errorf("%d ticks in a lease that is capped at a minute, %d in the minute after", live, calm)
		}
	})
}

func TestMalformedMessagesAreRefusedAndCounted(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.connect(true)
		_, stop := b.start(b.options(&readings{n: 4}))
		pass(time.Minute)
		for _, bad := range [][]byte{nil, {0}, make([]byte, 1<<20), []byte("control me")} {
			b.send(report.ControlSubject("b1"), bad)
			b.send(report.AckSubject("b1"), bad)
		}
		pass(time.Minute)
		stop()
		for _, source := range refusedNames[:refusedSpool] {
			got := int64(0)
			for k, v := range b.values {
				if k.series == (report.Series{Metric: report.SensorReadErrors, Instance: source}) {
					got = max(got, v)
				}
			}
			if got != 4 {
				t.Errorf("%s: %d refused messages counted, want 4", source, got)
			}
		}
	})
}

func TestDescriptionIsSentUntilAcknowledgedThenHourly(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		o := b.options(&readings{n: 4})
		kernel := "6.12"
		o.Attributes = func() []report.Attribute {
			b.mu.Lock()
			defer b.mu.Unlock()
			return []report.Attribute{{Key: report.AttributeKernel, Value: kernel}}
		}
		b.loses = func(n int) bool { return n == 2 } // the first report's ack
		b.connect(true)
		_, stop := b.start(o)
		pass(30 * time.Minute)
		b.do(func() { kernel = "6.18" })
		pass(75 * time.Minute)
		stop()
		var sent []string
		for _, r := range b.reports {
			if len(r.Info) > 0 {
				sent = append(sent, r.Info[0].Value)
			}
		}
		if want := []string{"6.12", "6.12", "6.18", "6.18"}; !slices.Equal(sent, want) {
			t.Errorf("descriptions sent: %q, want %q", sent, want)
		}
	})
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	b := newBench(t)
	o := b.options(&readings{n: 15})
	now := time.Hour
	o.Uptime = func() time.Duration { return now }
	o.Wall = func() time.Time { return time.UnixMilli(now.Milliseconds() + 1_700_000_000_000) }
	o.OwnSeries = true
	o.Heartbeat = func(Health) time.Duration { return 30 * time.Second }
	c := newCore(&o, &sampler{rhythm: newRhythm(o.Board, o.Interval, now), sources: o.Sources})
	collector := &ackLink{message: nats.Msg{Subject: report.AckSubject(o.Board)}, now: o.Wall}
	c.link = collector
	work := func() {
		now = min(c.next(now), c.heartbeat(now))
		c.connection(now)
		c.step(now)
		if collector.said {
			collector.said = false
			c.receive(now, &collector.message)
		}
	}
	for range 100 {
		work()
	}
	if n := testing.AllocsPerRun(1000, work); n > 0 {
		t.Errorf("%v allocations a tick", n)
	}
	if collector.reports < 1000 || !c.spool.Empty() {
		t.Errorf("%d reports, %d readings wait", collector.reports, c.spool.Readings())
	}
}

// ackLink acknowledges each report with memory of its own.
type ackLink struct {
	now     func() time.Time
	report  report.Report
	ack     report.Ack
	message nats.Msg
	reports int
	said    bool
}

func (*ackLink) Epoch() uint64 { return 1 }
func (*ackLink) Probe()        {}
func (l *ackLink) Publish(b []byte) error {
	l.ack.Time = l.now().UnixMilli()
	l.said, l.ack.Nonce, l.ack.Ranges = true, 0, l.ack.Ranges[:0]
	if report.IsReport(b) {
		if err := l.report.Decode(b); err != nil {
			return err
		}
		l.reports++
		l.ack.Session = l.report.Session
		l.ack.Ranges = append(l.ack.Ranges, report.Range{First: l.report.First, Count: uint64(l.report.Ticks())})
	} else {
		h, err := report.DecodeHello(b)
		if err != nil {
			return err
		}
		l.ack.Session, l.ack.Nonce = h.Session, h.Nonce
	}
	l.message.Data = l.ack.Append(l.message.Data[:0])
	return nil
}
