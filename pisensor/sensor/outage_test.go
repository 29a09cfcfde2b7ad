package sensor

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"bramble/pisensor/report"
	"bramble/pisensor/spool"
)

// witness reads a source and keeps each of its values with the time.
type witness struct {
	Source
	wrote map[placed]int64
}

func (w *witness) Read(t *report.Tick) {
	n := len(t.Readings)
	w.Source.Read(t)
	for _, r := range t.Readings[n:] {
		w.wrote[placed{r.Series, time.Now().UnixMilli()}] = r.Value
	}
}

// everything is a source of so many series that a day of them overflows the
// spool, and that change by large steps.
type everything struct{ r *rand.Rand }

func (s everything) Read(t *report.Tick) {
	t.Add(report.SOCTemperature, 40_000+s.r.Int64N(30_000))
	for _, device := range []string{"eth0", "eth1", "eth2", "wlan0", "usb0", "usb1", "br0", "wg0"} {
		t.AddInstance(report.NetworkReceive, device, s.r.Int64N(1<<30))
		t.AddInstance(report.NetworkTransmit, device, s.r.Int64N(1<<30))
		t.AddInstance(report.NetworkErrors, device, s.r.Int64N(1<<30))
	}
}

// TestOutageOfADayWithAFullSpool wants every reading that the spool could keep,
// with its value and its time to the millisecond, the present first and then the
// backlog from its oldest tick on, and the rest counted.
func TestOutageOfADayWithAFullSpool(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		w := &witness{Source: everything{rand.New(rand.NewPCG(5, 6))}, wrote: map[placed]int64{}}
		b.connect(true)
		c, stop := b.start(b.options(w))
		pass(time.Minute)
		b.connect(false)
		pass(24 * time.Hour)
		if !c.spool.Full() || c.spool.Dropped() == 0 {
			t.Fatalf("the spool is not full: %d dropped", c.spool.Dropped())
		}
		before := len(b.order)
		dropped := c.spool.Dropped()
		b.connect(true)
		pass(2 * time.Minute)
		stop()
		if c.spool.Dropped() != dropped {
			t.Errorf("%d more readings dropped once the collector was back", c.spool.Dropped()-dropped)
		}
		// The last reports before the outage arrived, and had asked for no ack: counted, too.
		if lost := len(w.wrote) - len(b.values); lost > int(dropped) || int(dropped)-lost > 25*(askReports-1) {
			t.Errorf("%d readings are missing, %d counted", lost, dropped)
		}
		for k, v := range b.values {
			if want, ok := w.wrote[k]; !ok || want != v {
				t.Fatalf("%v at %d is %d, was read as %d, %v", k.series, k.at, v, want, ok)
			}
		}
		after := b.order[before:]
		newest := slices.Max(after)
		if after[0] < 8640-presentTicks {
			t.Errorf("tick %d came first after the outage", after[0])
		}
		backlog := slices.DeleteFunc(slices.Clone(after), func(n uint64) bool { return n > newest-presentTicks-20 })
		if !slices.IsSorted(backlog) || len(backlog) < 3000 {
			t.Errorf("backlog of %d ticks is out of order", len(backlog))
		}
	})
}

// TestALeaseForEverKeepsTheBudget runs the whole loop with a process that costs
// too much, a collector that never stops watching, and then a hot board.
func TestALeaseForEverKeepsTheBudget(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		s := &costly{temperature: 45_000}
		b.connect(true)
		_, stop := b.start(b.options(s))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				b.send(report.ControlSubject("b1"), (&report.Control{Lease: 60_000, Watchers: 1}).Append(nil))
				<-time.After(20 * time.Second)
			}
		}()
		pass(4 * time.Hour)
		before := b.taken()
		pass(time.Hour)
		slow := b.taken() - before
		b.do(func() { s.temperature = 79_900 })
		pass(time.Minute)
		before = b.taken()
		pass(time.Hour)
		hot := b.taken() - before
		cancel()
		<-done
		stop()
		if slow > 1801 || hot < 3590 {
			t.Errorf("%d ticks an hour in a lease without end, %d at a line", slow, hot)
		}
	})
}

// costly is a board that is far too slow for its sensor: a tick costs 8 ms.
type costly struct {
	temperature int64
	ticks       int64
}

func (s *costly) Read(t *report.Tick) {
	s.ticks++
	t.Add(report.SOCTemperature, s.temperature)
	t.Add(report.SensorCPU, 8*s.ticks)
	t.Add(report.SensorWakeups, 4*s.ticks)
}

// TestAStopAsksForTheLastAcknowledgement stops sensors at any number of reports for which none was asked, and at 1 Hz
// just behind one.
func TestAStopAsksForTheLastAcknowledgement(t *testing.T) {
	for _, interval := range []time.Duration{DefaultInterval, time.Second} {
		for reports := range askReports + 1 {
			bubble(t, func(t *testing.T, b *bench) {
				o := b.options(&readings{n: 4})
				o.OwnSeries, o.Interval = true, interval
				b.connect(true)
				c, stop := b.start(o)
				pass(time.Minute + time.Duration(reports)*interval)
				waiting, began := c.spool.Readings(), time.Now()
				stop()
				if took := time.Since(began); waiting > 0 && took != b.delay() || took > b.delay() {
					t.Errorf("with %d readings that wait, stopped %v after the signal, %v after the acknowledgement", waiting, took, took-b.delay())
				}
				if lost := b.last(report.Series{Metric: report.SensorDropped}); lost != 0 || !c.spool.Empty() {
					t.Errorf("%d readings of %d that wait were said to be lost", lost, waiting)
				}
				if b.repeated > 0 || !b.reports[len(b.reports)-1].Goodbye {
					t.Errorf("%d readings were sent twice; goodbye: %v", b.repeated, b.reports[len(b.reports)-1].Goodbye)
				}
			})
		}
	}
}

// TestGoodbyeLeavesBeforeTheNetwork stops a sensor whose collector no longer
// acknowledges, as on a board that is being halted.
func TestGoodbyeLeavesBeforeTheNetwork(t *testing.T) {
	f := func(name string, kept bool, lost int64) {
		t.Helper()
		bubble(t, func(t *testing.T, b *bench) {
			o := b.options(&readings{n: 4})
			o.OwnSeries, o.Kept = true, kept
			b.connect(true)
			c, stop := b.start(o)
			pass(time.Minute)
			b.do(func() { b.answers = false })
			pass(25 * time.Second)
			waiting := int64(c.spool.Readings())
			said, began := b.published(), time.Now()
			stop()
			if took := time.Since(began); took != drainTime {
				t.Errorf("%s: stopped after %v", name, took)
			}
			if len(b.reports) == said {
				t.Fatalf("%s: no goodbye", name)
			}
			if at := b.arrived[said]; !b.reports[said].Goodbye || at.Sub(began) > 0 {
				t.Errorf("%s: the first report after the signal came %v later, goodbye %v", name, at.Sub(began), b.reports[said].Goodbye)
			}
			for _, r := range b.reports[said:] {
				if !r.Goodbye {
					t.Errorf("%s: a report without goodbye behind the first that says it", name)
				}
			}
			if got := b.last(report.Series{Metric: report.SensorDropped}); lost > 0 && got != waiting || lost == 0 && got != 0 {
				t.Errorf("%s: %d readings said to be lost, %d waited", name, got, waiting)
			}
		})
	}
	f("nobody keeps the spool", false, 1)
	f("the next process gets the spool", true, 0)
}

func TestUnacknowledgedReportsProbeTheConnection(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.connect(true)
		_, stop := b.start(b.options(&readings{n: 4}))
		pass(10 * time.Minute)
		if b.probes > 0 {
			t.Errorf("%d probes while all is well", b.probes)
		}
		b.do(func() { b.answers = false })
		const limit = askTime + 2*DefaultInterval
		pass(limit)
		if b.probes == 0 {
			t.Errorf("no probe %v after the last acknowledgement", limit)
		}
		stop()
	})
}

func TestSlowAcknowledgementsHoldNothingUp(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.connect(true)
		o := b.options(&readings{n: 4})
		o.Interval = time.Second
		_, stop := b.start(o)
		pass(time.Minute)
		var reports, acks int // without the answers to hellos
		b.do(func() {
			reports, acks = len(b.reports), b.acks-b.hellos
			b.delay = func() time.Duration { return ackTime - time.Millisecond }
		})
		pass(10 * time.Minute)
		b.do(func() { reports, acks = len(b.reports)-reports, b.acks-b.hellos-acks })
		if reports != 600 || acks < 600/askReports || acks > 600/askReports+1 {
			t.Errorf("%d reports and %d acknowledgements in 600 s at 1 Hz", reports, acks)
		}
		if b.repeated > 0 {
			t.Errorf("%d readings came again", b.repeated)
		}
		for i := 1; i < len(b.arrived); i++ {
			if gap := b.arrived[i].Sub(b.arrived[i-1]); i > len(b.arrived)-600 && gap > time.Second+tolerance {
				t.Errorf("report %d came %v behind the one before", i, gap)
			}
		}
		stop()
	})
}

func TestBoardsComeBackSpread(t *testing.T) {
	const boards = 10_000
	perSecond := map[time.Duration]int{}
	for range boards {
		perSecond[reconnectDelay(1, reconnectMax).Truncate(time.Second)]++
	}
	for second, n := range perSecond {
		if n > boards/5 {
			t.Errorf("%d of %d boards come back in second %v", n, boards, second)
		}
	}
	for attempt := range 100 {
		for _, limit := range []time.Duration{reconnectMax, refusedMax} {
			if d := reconnectDelay(attempt, limit); d < reconnectFirst/4 || d > limit*5/4 || attempt > 20 && d < limit*3/4 {
				t.Errorf("attempt %d after %v", attempt, d)
			}
		}
	}
}

func TestARackThatGetsItsPowerBackConnectsSpread(t *testing.T) {
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	f := func(uptime, limit time.Duration) (slots map[time.Duration]int) {
		t.Helper()
		slots = map[time.Duration]int{}
		for range 1000 {
			l, err := newLink(&Options{Board: "b1", URL: "nats://localhost", Key: key, Uptime: func() time.Duration { return uptime }, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			l.cancel()
			if l.delay < 0 || l.delay > limit {
				t.Fatalf("up for %v: connects after %v", uptime, l.delay)
			}
			slots[l.delay.Truncate(time.Second)]++
		}
		return slots
	}
	for second, n := range f(20*time.Second, powerUpSpread) {
		if n > 200 {
			t.Errorf("%d of 1000 boards connect in second %v", n, second)
		}
	}
	f(time.Hour, 0) // a restart on a board that is up has no reason to wait
}

func TestABacklogBeginsSpread(t *testing.T) {
	late := 0
	for range 20 {
		bubble(t, func(t *testing.T, b *bench) {
			b.connect(true)
			_, stop := b.start(b.options(&readings{n: 15}))
			pass(time.Minute)
			b.connect(false)
			pass(time.Hour)
			b.connect(true)
			before := b.taken()
			pass(crowdSpread / 2)
			if b.taken()-before < 2*presentTicks {
				late++
			}
			pass(time.Minute)
			stop()
		})
	}
	if late == 0 || late == 20 {
		t.Errorf("%d of 20 boards began their backlog in the second half of %v", late, crowdSpread)
	}
}

// TestANewProcessGoesOn hands a spool from one core to the next.
func TestANewProcessGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		w := &witness{Source: &readings{n: 10}, wrote: map[placed]int64{}}
		s, f, err := spool.Create(DefaultSpoolBytes, "b1")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		o := b.options(w)
		o.Spool, o.Kept = s, true
		b.connect(true)
		_, stop := b.start(o)
		pass(time.Minute)
		b.connect(false)
		pass(time.Hour)
		stop()
		if err := s.Unmap(); err != nil {
			t.Fatal(err)
		}
		b.messages = make(chan *nats.Msg, inbox)
		pass(3 * time.Second)
		o = b.options(w)
		if o.Spool, err = spool.Restore(f, DefaultSpoolBytes, "b1", o.Uptime().Milliseconds()); err != nil {
			t.Fatal(err)
		}
		defer o.Spool.Unmap()
		o.Kept = true
		b.connect(true)
		c, stop := b.start(o)
		pass(2 * time.Minute)
		stop()
		checkComplete(t, b, c)
		if len(b.values) != len(w.wrote) || b.repeated > 10*(askReports-1) || c.eras.opened != 1 {
			t.Errorf("%d of %d readings arrived, %d twice, %d eras", len(b.values), len(w.wrote), b.repeated, c.eras.opened)
		}
		for k, v := range b.values {
			if w.wrote[k] != v {
				t.Fatalf("%v at %d is %d, was %d", k.series, k.at, v, w.wrote[k])
			}
		}
	})
}
