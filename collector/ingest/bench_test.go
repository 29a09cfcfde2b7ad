package ingest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"bramble/alerting/rules"
	"bramble/collector/registry"
	"bramble/pisensor/report"
	"bramble/storage"
)

// chain is all from a board's NATS connection to the store: real parts, in one process with the boards.
type chain struct {
	*Ingest
	store *storage.Store
	board *nats.Conn // speaks for all of them
	names []string
	stop  func()
}

func newChain(b *testing.B, dir string, boards int) *chain {
	b.Helper()
	db, err := registry.OpenDB(filepath.Join(dir, "state.db"))
	if err != nil {
		b.Fatal(err)
	}
	r, err := registry.Open(b.Context(), db)
	if err != nil {
		b.Fatal(err)
	}
	c := &chain{}
	for i := range boards {
		name := fmt.Sprintf("b%04d", i)
		if _, known := r.Board(name); !known {
			if err := r.AddBoard(b.Context(), name, map[string]string{"rack": fmt.Sprintf("r%d", i/40)}); err != nil {
				b.Fatal(err)
			}
		}
		c.names = append(c.names, name)
	}
	if c.store, err = storage.Open(filepath.Join(dir, "series"), storage.Options{}); err != nil {
		b.Fatal(err)
	}
	s := startNATS(b)
	c.board = connect(b, s)
	if c.Ingest, err = New(Options{
		Dir: filepath.Join(dir, "journal"), Conn: connect(b, s), Registry: r, Store: c.store, Engine: rules.NewEngine(rules.Default()),
	}); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	if err := c.Do(ctx, func() {}); err != nil {
		b.Fatal(err)
	}
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		if err := c.store.Close(); err != nil {
			b.Error(err)
		}
		db.Close()
	})
	b.Cleanup(c.stop)
	return c
}

// tenSeries are the series of a board with one network device in a tick.
var tenSeries = []report.Series{
	{Metric: report.SOCTemperature}, {Metric: report.ClockRequested}, {Metric: report.ClockMeasured}, {Metric: report.CPUBusy},
	{Metric: report.Load1}, {Metric: report.MemoryAvailable}, {Metric: report.CoreVolts}, {Metric: report.FanSpeed},
	{Metric: report.NetworkReceive, Instance: "eth0"}, {Metric: report.NetworkTransmit, Instance: "eth0"},
}

// reportOf is a board's report with so many ticks, one second apart and the last at a time.
func reportOf(r *rand.Rand, first uint64, at int64, ticks int) []byte {
	p := report.Report{Session: 1, First: first, Anchor: at - int64(ticks-1)*1000, Due: 60_000}
	for i := range ticks {
		p.Elapsed = append(p.Elapsed, int64(i)*1000)
	}
	for k, s := range tenSeries {
		d := report.Define(s.Metric)
		for i, column := 0, p.Column(s); i < ticks; i++ {
			column[i] = min(d.Max, 40_000+int64(k)*1000+487*r.Int64N(5))
		}
	}
	return p.Append(nil)
}

func cpuTime(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// BenchmarkChain takes reports from NATS to the store: decoded, decided by the default rules, journalled with fsync,
// acknowledged and stored. The CPU time is the whole process's: the boards' publishing, the NATS server and the engine's
// background work are in it, TLS is not.
func BenchmarkChain(b *testing.B) {
	for _, ticks := range []int{1, 6} {
		b.Run(fmt.Sprintf("%d-readings", ticks*len(tenSeries)), func(b *testing.B) { benchmarkChain(b, ticks) })
	}
}

func benchmarkChain(b *testing.B, ticks int) {
	c := newChain(b, b.TempDir(), chainBoards)
	used := c.feed(b, ticks)
	b.StopTimer()
	readings := float64(b.N * ticks * len(tenSeries))
	b.ReportMetric(readings/used, "readings/cpu-s")
	b.ReportMetric(readings/b.Elapsed().Seconds(), "readings/s")
	c.stop()
}

const chainBoards = 500

// feed publishes b.N reports, waits until they are acknowledged and stored, and returns the CPU seconds that took. It
// resets b's timer when it begins.
func (c *chain) feed(b *testing.B, ticks int) float64 {
	b.Helper()
	const boards = chainBoards
	var acked atomic.Int64
	if _, err := c.board.Subscribe("ack.*", func(*nats.Msg) { acked.Add(1) }); err != nil {
		b.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	began := time.Now().Add(-7 * 24 * time.Hour).UnixMilli()
	data := make([][]byte, b.N)
	for i := range data {
		n := i / boards
		data[i] = reportOf(random, uint64(n*ticks), began+int64((n+1)*ticks)*1000, ticks)
	}
	subjects := make([]string, boards)
	for i, name := range c.names {
		subjects[i] = report.TelemetrySubject(name)
	}
	b.ResetTimer()
	cpu := cpuTime(b)
	pause := time.NewTicker(time.Millisecond)
	defer pause.Stop()
	for i, d := range data {
		for int64(i)-acked.Load() > backlog/2 { // no faster than it is taken
			<-pause.C
		}
		if err := c.board.Publish(subjects[i%boards], d); err != nil {
			b.Fatal(err)
		}
	}
	for acked.Load() < int64(b.N) {
		<-pause.C
	}
	stored := make(chan struct{})
	c.feeder.when(c.journal.End(), func() { close(stored) })
	<-stored
	return cpuTime(b) - cpu
}

// BenchmarkReplay starts over a journal of b.N reports of ten readings, as after a kill or a time with a full store.
func BenchmarkReplay(b *testing.B) {
	dir := b.TempDir()
	c := newChain(b, dir, chainBoards)
	c.feed(b, 1)
	c.stop()
	b.ResetTimer()
	newChain(b, dir, chainBoards).stop()
	b.StopTimer()
	b.ReportMetric(float64(b.N*len(tenSeries))/b.Elapsed().Seconds(), "readings/s")
}

// BenchmarkAck publishes 2,000 reports of ten readings a second for 40 s, in which the journal is cut and the store
// flushed, and measures from the publication to the board's ack.
func BenchmarkAck(b *testing.B) {
	const boards, seconds = 2000, 40
	for b.Loop() {
		c := newChain(b, b.TempDir(), boards)
		sent := make([]atomic.Int64, boards) // when each board's last report left
		var mu sync.Mutex
		var took []time.Duration
		if _, err := c.board.Subscribe("ack.*", func(m *nats.Msg) {
			now := time.Now().UnixNano()
			var i int
			if _, err := fmt.Sscanf(m.Subject, "ack.b%d", &i); err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Duration(now-sent[i].Load()))
		}); err != nil {
			b.Fatal(err)
		}
		random := rand.New(rand.NewPCG(1, 2))
		tick := time.NewTicker(10 * time.Millisecond) // 20 boards each
		for n := range seconds * 100 {
			<-tick.C
			for k := range 20 {
				i := n*20%boards + k
				sent[i].Store(time.Now().UnixNano())
				if err := c.board.Publish(report.TelemetrySubject(c.names[i]), reportOf(random, uint64(n*20/boards), time.Now().UnixMilli(), 1)); err != nil {
					b.Fatal(err)
				}
			}
		}
		tick.Stop()
		<-time.After(time.Second)
		mu.Lock()
		all := slices.Clone(took)
		mu.Unlock()
		slices.Sort(all)
		if len(all) < boards*seconds {
			b.Errorf("%d of %d reports are acknowledged", len(all), boards*seconds)
		}
		at := func(p float64) float64 { return float64(all[int(p*float64(len(all)-1))].Microseconds()) / 1000 }
		b.ReportMetric(at(0.5), "p50-ms")
		b.ReportMetric(at(0.99), "p99-ms")
		b.ReportMetric(at(1), "max-ms")
		c.stop()
	}
}
