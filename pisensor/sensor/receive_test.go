package sensor

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"bramble/pisensor/report"
)

func TestCapsOfAControlMessage(t *testing.T) {
	f := func(name string, c report.Control, wantLease time.Duration, wantLines []int64, wantRefused int64, wantErr bool) {
		t.Helper()
		q, refused, err := allow(&c)
		if q.lease != wantLease || !slices.Equal(q.lines, wantLines) || refused != wantRefused || (err != nil) != wantErr {
			t.Errorf("%s: lease %v, lines %d, %d parts refused, error %v", name, q.lease, q.lines, refused, err)
		}
	}
	heat := func(levels ...int64) (lines []report.Line) {
		for _, l := range levels {
			lines = append(lines, report.Line{Metric: report.SOCTemperature, Level: l})
		}
		return lines
	}
	f("a lease", report.Control{Lease: 30_000, Watchers: 2}, 30*time.Second, nil, 0, false)
	f("a lease of an hour", report.Control{Lease: 3_600_000}, maxLease, nil, 1, false)
	f("a lease of three hundred years", report.Control{Lease: 1e13}, maxLease, nil, 1, false)
	f("lines", report.Control{SetLines: true, Lines: heat(70_000, 80_000)}, 0, []int64{70_000, 80_000}, 0, false)
	f("no lines", report.Control{SetLines: true}, 0, nil, 0, false)
	f("a line on the sun", report.Control{SetLines: true, Lines: heat(5_500_000, 70_000)}, 0, []int64{70_000}, 1, false)
	f("lines of a later release", report.Control{SetLines: true, Lines: append(heat(70_000), report.Line{Metric: 60_000})}, 0, []int64{70_000}, 1, false)
	f("a line on what the board lacks", report.Control{SetLines: true, Lines: []report.Line{{Metric: report.FanSpeed, Level: 1000}}}, 0, nil, 0, false)
	f("lines without number", report.Control{Lease: 1000, SetLines: true, Lines: heat(make([]int64, 200)...)}, 0, nil, 0, true)
	f("a stadium that watches", report.Control{Lease: 1000, Watchers: 60_000}, 0, nil, 0, true)
}

func TestRefusedPartsOfControlAreCounted(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.connect(true)
		c, stop := b.start(b.options(&readings{n: 4}))
		pass(time.Minute)
		for _, m := range []report.Control{
			{Lease: 1e13}, // cut
			{SetLines: true, Lines: make([]report.Line, 100)},                                      // refused whole
			{SetLines: true, Lines: []report.Line{{Metric: 999}, {Metric: report.SOCTemperature}}}, // one of two
		} {
			b.send(report.ControlSubject("b1"), m.Append(nil))
		}
		pass(time.Minute)
		stop()
		if got := c.refused[refusedControl]; got != 3 {
			t.Errorf("%d parts counted, want 3", got)
		}
		if got := b.last(report.Series{Metric: report.SensorReadErrors, Instance: "control"}); got != 3 {
			t.Errorf("%d parts reported, want 3", got)
		}
	})
}

// last returns the latest value of a series that has arrived.
func (b *bench) last(s report.Series) (v int64) {
	at := int64(0)
	for k, value := range b.values {
		if k.series == s && k.at > at {
			at, v = k.at, value
		}
	}
	return v
}

func TestTheOwnerSeesWhoWatches(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		var log bytes.Buffer
		o := b.options(&readings{n: 4})
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		var health Health
		o.Heartbeat = func(h Health) time.Duration { b.do(func() { health = h }); return time.Hour }
		said := func() (h Health) { b.do(func() { h = health }); return h }
		b.connect(true)
		_, stop := b.start(o)
		pass(time.Minute)
		watch := func(n uint64) {
			b.send(report.ControlSubject("b1"), (&report.Control{Lease: 30_000, Watchers: n}).Append(nil))
			pass(20 * time.Second)
		}
		watch(1)
		watch(1)
		watch(2)
		if h := said(); h.Watchers != 2 || h.Interval != fast {
			t.Errorf("health %+v", h)
		}
		pass(time.Minute)
		if h := said(); h.Watchers != 0 || h.Interval != DefaultInterval {
			t.Errorf("health after the lease %+v", h)
		}
		stop()
		var lines []string
		for line := range strings.Lines(log.String()) {
			if _, rest, ok := strings.Cut(line, "live mode"); ok {
				lines = append(lines, strings.TrimSpace(rest))
			}
		}
		want := []string{
			`: this board is being watched" board=b1 watchers=1`, `: this board is being watched" board=b1 watchers=2`,
			`has ended: nobody watches this board" board=b1`,
		}
		if !slices.Equal(lines, want) {
			t.Errorf("log %q, want %q", lines, want)
		}
	})
}

// FuzzReceive sends a sensor with ticks in flight the messages of a collector, or of somebody who
// poses as one.
func FuzzReceive(f *testing.F) {
	ack := report.Ack{Session: 1, Time: 1, Ranges: []report.Range{{First: 1, Count: 5}}}
	f.Add(false, ack.Append(nil))
	ack.Ranges[0] = report.Range{First: 1 << 62, Count: 1 << 32}
	f.Add(false, ack.Append(nil))
	f.Add(true, (&report.Control{Lease: 1e13, Watchers: 1, SetLines: true, Lines: []report.Line{{Metric: 1, Level: 1 << 62}}}).Append(nil))
	f.Add(true, []byte("control me"))
	now := time.Hour
	o := Options{
		Board: "b1", SpoolBytes: DefaultSpoolBytes, Log: slog.New(slog.DiscardHandler), OwnSeries: true,
		Uptime: func() time.Duration { return now }, Wall: func() time.Time { return time.UnixMilli(1_700_000_000_000 + now.Milliseconds()) },
		Sources: []Source{&readings{n: 8}},
	}
	f.Fuzz(func(t *testing.T, control bool, b []byte) {
		c := newCore(&o, &sampler{rhythm: newRhythm(o.Board, DefaultInterval, now), sources: o.Sources})
		c.link = &ackLink{now: o.Wall}
		c.connection(now)
		c.eras.open(1_700_000_000_000, 1_700_000_000_000)
		c.spool.SetAnchor(c.eras.at)
		for range 5 {
			c.step(now)
			now += time.Second
		}
		subject := report.AckSubject("b1")
		if control {
			subject = report.ControlSubject("b1")
		} else if len(b) > 5 { // the sensor's own session, so that the ack counts
			binary.LittleEndian.PutUint32(b[1:], c.spool.Session())
		}
		c.receive(now, &nats.Msg{Subject: subject, Data: b})
		for range 5 {
			c.step(now)
			if at := c.next(now); at <= now || at > now+MaxInterval {
				t.Fatalf("next step in %v", at-now)
			}
			now = c.next(now)
		}
		if c.sampler.lease > now+maxLease || c.spool.Readings() < 0 {
			t.Errorf("lease until %v at %v, %d readings wait", c.sampler.lease, now, c.spool.Readings())
		}
	})
}
