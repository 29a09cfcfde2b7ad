package sensor

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"bramble/pisensor/report"
)

// placed is a reading as the collector would store it.
type placed struct {
	series report.Series
	at     int64
}

// bench is a board and its collector in simulated time: the sensor's own core
// and codec, without sockets. Its methods may be called from any goroutine of
// the bubble.
type bench struct {
	t        *testing.T
	messages chan *nats.Msg
	changed  chan struct{}
	began    time.Time

	mu       sync.Mutex
	epoch    uint64
	up       bool
	skew     time.Duration // collector's clock minus true time
	wallSkew time.Duration // board's system clock minus true time
	delay    func() time.Duration
	answers  bool // acks are sent
	loses    func(n int) bool

	reports  []report.Report
	sizes    []int
	hellos   int
	probes   int
	acks     int
	ticks    map[uint64]int64 // time of each tick
	values   map[placed]int64
	repeated int            // readings that came again
	unsaid   []report.Range // and not yet acknowledged
	order    []uint64

	arrived   []time.Time   // of each report
	tolerates time.Duration // how far a fresh tick may be from the true time; 0 = unchecked
}

func newBench(t *testing.T) *bench {
	return &bench{
		t: t, messages: make(chan *nats.Msg, inbox), changed: make(chan struct{}, 1), began: time.Now(),
		delay: func() time.Duration { return 20 * time.Millisecond }, answers: true,
		ticks: map[uint64]int64{}, values: map[placed]int64{},
	}
}

func (b *bench) options(sources ...Source) Options {
	return Options{
		Board: "b1", URL: "nats://localhost", Sources: sources,
		Uptime: func() time.Duration { return time.Since(b.began) + time.Hour },
		Wall: func() time.Time {
			b.mu.Lock()
			defer b.mu.Unlock()
			return time.Now().Add(b.wallSkew)
		},
		Interval: DefaultInterval, SpoolBytes: DefaultSpoolBytes,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func (b *bench) Epoch() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.up {
		return 0
	}
	return b.epoch
}

// Probe is counted: there is no connection to try.
func (b *bench) Probe() { b.do(func() { b.probes++ }) }

func (b *bench) connect(up bool) {
	b.mu.Lock()
	if up {
		b.epoch++
	}
	b.up = up
	b.mu.Unlock()
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// do changes the bench under its lock.
func (b *bench) do(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *bench) Publish(data []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.up {
		return errors.New("away")
	}
	if report.IsReport(data) {
		b.take(data)
		return nil
	}
	h, err := report.DecodeHello(data)
	if err != nil {
		b.t.Error(err)
	}
	b.hellos++
	b.answer(report.Ack{Session: h.Session, Nonce: h.Nonce})
	return nil
}

func (b *bench) take(data []byte) {
	var r report.Report
	if err := r.Decode(data); err != nil {
		b.t.Error(err)
		return
	}
	b.reports, b.sizes, b.arrived = append(b.reports, r), append(b.sizes, len(data)), append(b.arrived, time.Now())
	if last := r.Ticks() - 1; b.tolerates > 0 && last >= 0 {
		if off := distance(r.At(last), time.Now().UnixMilli()); off > b.tolerates.Milliseconds() {
			b.t.Errorf("tick %d is off by %d ms", r.First, off)
		}
	}
	for i := range r.Ticks() {
		b.tick(&r, i)
	}
	if r.Ticks() > 0 {
		b.unsaid = append(b.unsaid, report.Range{First: r.First, Count: uint64(r.Ticks())})
	}
	if !r.AckLater {
		b.answer(report.Ack{Session: r.Session, Ranges: b.unsaid})
		b.unsaid = nil
	}
}

func (b *bench) tick(r *report.Report, i int) {
	n := r.First + uint64(i)
	if was, ok := b.ticks[n]; ok && was != r.At(i) {
		b.t.Errorf("tick %d came again with another time: %d, before %d", n, r.At(i), was)
	} else if !ok {
		b.order = append(b.order, n)
	}
	b.ticks[n] = r.At(i)
	for _, c := range r.Columns {
		if c.Values[i] == report.Missing {
			continue
		}
		k := placed{c.Series, r.At(i)}
		if was, ok := b.values[k]; ok {
			b.repeated++
			if was != c.Values[i] {
				b.t.Errorf("%v came again with %d, before %d", k, c.Values[i], was)
			}
		}
		b.values[k] = c.Values[i]
	}
}

// answer sends an ack after the bench's delay, stamped when it leaves.
func (b *bench) answer(a report.Ack) {
	b.acks++
	if !b.answers || b.loses != nil && b.loses(b.acks) {
		return
	}
	a.Time = time.Now().Add(b.skew).UnixMilli()
	time.AfterFunc(b.delay(), func() { b.send(report.AckSubject("b1"), a.Append(nil)) })
}

func (b *bench) send(subject string, data []byte) {
	select {
	case b.messages <- &nats.Msg{Subject: subject, Data: data}:
	case <-b.t.Context().Done():
	default:
		b.t.Error("the sensor does not take its messages")
	}
}

// start runs a core on the bench. The returned function stops it.
func (b *bench) start(o Options) (*core, func()) {
	c := newCore(&o, &sampler{rhythm: newRhythm(o.Board, o.Interval, o.Uptime()), sources: o.Sources})
	ctx, cancel := context.WithCancel(b.t.Context())
	finished := make(chan struct{})
	go func() { defer close(finished); c.run(ctx, b, b.messages, b.changed) }()
	return c, func() { cancel(); <-finished }
}

// readings is a source of n series, of which the temperature is set.
type readings struct {
	n           int
	mu          sync.Mutex
	temperature int64
	throttled   int64
	count       int64
}

func (s *readings) Read(t *report.Tick) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	t.Add(report.SOCTemperature, s.temperature+s.count*537%5000)
	t.Add(report.ClockRequested, 600000+s.count%3*400000)
	t.Add(report.ClockMeasured, 600+s.count*7%600)
	t.Add(report.Throttled, s.throttled)
	names := []string{"eth0", "wlan0", "usb0", "eth1"}
	for i := range s.n - 4 {
		t.AddInstance(report.NetworkReceive+report.Metric(i/len(names)), names[i%len(names)], s.count*(1000+int64(i)*7919))
	}
}

func bubble(t *testing.T, f func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newBench(t)) })
}

// pass lets simulated time pass, and everything that it brings about happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// taken returns how many ticks have arrived so far.
func (b *bench) taken() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.ticks)
}

// published returns how many reports have arrived so far.
func (b *bench) published() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.reports)
}
