package source

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"bramble/pisensor/report"
)

// scripted is a source that a test leads.
type scripted struct {
	metric  report.Metric
	err     error         // the result of Read
	hang    chan struct{} // where set, Read waits until it is closed
	reads   atomic.Int64
	closed  int
	content int64
}

func (s *scripted) Read(t *report.Tick, _ []byte) error {
	s.reads.Add(1)
	if s.hang != nil {
		<-s.hang
	}
	s.content++
	t.Add(s.metric, s.content)
	return s.err
}

func (s *scripted) Close() error { s.closed++; return nil }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// pass reads the group once; errors stand under their source's name.
func pass(g *Group) map[any]int64 {
	var t report.Tick
	g.Read(&t)
	got := map[any]int64{}
	for _, r := range t.Readings {
		if r.Series.Metric == report.SensorReadErrors {
			got[r.Series.Instance] = r.Value
		} else {
			got[r.Series.Metric] = r.Value
		}
	}
	return got
}

func expect(t *testing.T, g *Group, want map[any]int64) {
	t.Helper()
	if diff := cmp.Diff(want, pass(g)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAGroupCountsFailuresAndGoesOn(t *testing.T) {
	a := &scripted{metric: report.SOCTemperature, err: errors.New("EIO")}
	b := &scripted{metric: report.Load1, err: ErrAbsent}
	c := &scripted{metric: report.FanSpeed}
	var log bytes.Buffer
	g := NewGroup(slog.New(slog.NewTextHandler(&log, nil)), Item{Name: "a", Reader: a}, Item{Name: "b", Reader: b}, Item{Name: "c", Reader: c})
	expect(t, g, map[any]int64{report.SOCTemperature: 1, report.Load1: 1, report.FanSpeed: 1, "a": 1})
	expect(t, g, map[any]int64{report.SOCTemperature: 2, report.Load1: 2, report.FanSpeed: 2, "a": 2})
	a.err = nil
	expect(t, g, map[any]int64{report.SOCTemperature: 3, report.Load1: 3, report.FanSpeed: 3, "a": 2})
	if err := g.Close(); err != nil || a.closed != 1 || b.closed != 1 || c.closed != 1 {
		t.Errorf("closed %d, %d, %d times: %v", a.closed, b.closed, c.closed, err)
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "source=a err=EIO") {
		t.Errorf("log %q", text)
	}
}

func TestSourcesHaveTheirPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		always, calm, seldom := &scripted{}, &scripted{}, &scripted{}
		g := NewGroup(quiet(), Item{Name: "always", Reader: always}, Item{Name: "calm", Reader: calm, Every: Calm}, Item{Name: "seldom", Reader: seldom, Every: Seldom})
		f := func(step time.Duration, steps, wantCalm, wantSeldom int64) {
			t.Helper()
			for _, s := range []*scripted{always, calm, seldom} {
				s.reads.Store(0)
			}
			for range steps {
				pass(g)
				time.Sleep(step)
			}
			if a, c, s := always.reads.Load(), calm.reads.Load(), seldom.reads.Load(); a != steps || c != wantCalm || s != wantSeldom {
				t.Errorf("every %v: %d, %d, %d reads in %d ticks", step, a, c, s, steps)
			}
			time.Sleep(time.Hour)
		}
		f(10*time.Second, 60, 60, 10)
		f(9999*time.Millisecond, 60, 60, 10)
		f(time.Second, 600, 60, 10)
		g.Close()
	})
}

func TestASourceThatHangsCostsOnlyItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, last := &scripted{metric: report.ClockRequested}, &scripted{metric: report.Load1}
		hung := &scripted{metric: report.CoreVolts, hang: make(chan struct{})}
		g := NewGroup(quiet(), Item{Name: "first", Reader: first}, Item{Name: "hung", Reader: hung}, Item{Name: "last", Reader: last})
		begin := time.Now()
		expect(t, g, map[any]int64{report.ClockRequested: 1, report.Load1: 1, "hung": 1})
		if took := time.Since(begin); took < patience || took > 2*patience {
			t.Errorf("given up after %v", took)
		}
		goroutines := runtime.NumGoroutine()
		for i := range int64(100) {
			begin = time.Now()
			expect(t, g, map[any]int64{report.ClockRequested: 2 + i, report.Load1: 2 + i, "hung": 2 + i})
			if took := time.Since(begin); took > 0 {
				t.Errorf("waited %v for a source that is known to hang", took)
			}
			time.Sleep(time.Second)
		}
		if hung.reads.Load() != 1 || runtime.NumGoroutine() > goroutines {
			t.Errorf("asked %d times, %d goroutines instead of %d", hung.reads.Load(), runtime.NumGoroutine(), goroutines)
		}
		close(hung.hang) // its answer is of another time and does not count
		synctest.Wait()
		expect(t, g, map[any]int64{report.ClockRequested: 102, report.CoreVolts: 2, report.Load1: 102, "hung": 101})
		if err := g.Close(); err != nil || hung.closed != 1 {
			t.Errorf("closed %d times: %v", hung.closed, err)
		}
	})
}

func TestAllSourcesMayHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var items []Item
		var sources []*scripted
		for _, name := range []string{"a", "b", "c"} {
			s := &scripted{metric: report.Load1, hang: release}
			sources = append(sources, s)
			items = append(items, Item{Name: name, Reader: s})
		}
		g := NewGroup(quiet(), items...)
		expect(t, g, map[any]int64{"a": 1, "b": 1, "c": 1})
		expect(t, g, map[any]int64{"a": 2, "b": 2, "c": 2})
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		for _, s := range sources {
			if s.closed != 0 {
				t.Error("closed while somebody reads it")
			}
		}
		close(release)
		synctest.Wait() // and no goroutine is left, or the bubble would say so
		for _, s := range sources {
			if s.closed != 1 {
				t.Errorf("closed %d times after it came back", s.closed)
			}
		}
	})
}

// TestASlowSourceIsWaitedFor has every source take nearly as long as it may.
func TestASlowSourceIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(quiet(), Item{Name: "a", Reader: slow(report.Load1)}, Item{Name: "b", Reader: slow(report.FanSpeed)}, Item{Name: "c", Reader: slow(report.CoreVolts)})
		expect(t, g, map[any]int64{report.Load1: 1, report.FanSpeed: 1, report.CoreVolts: 1})
		g.Close()
	})
}

type slow report.Metric

func (s slow) Read(t *report.Tick, _ []byte) error {
	time.Sleep(patience - time.Millisecond)
	t.Add(report.Metric(s), 1)
	return nil
}

func (slow) Close() error { return nil }

func TestAGroupCostsNoAllocation(t *testing.T) {
	g := NewGroup(quiet(), Item{Name: "a", Reader: &scripted{metric: report.Load1}}, Item{Name: "b", Reader: &scripted{metric: report.FanSpeed, err: ErrAbsent}})
	defer g.Close()
	var tick report.Tick
	if n := testing.AllocsPerRun(100, func() { tick.Reset(); g.Read(&tick) }); n > 0 {
		t.Errorf("%v allocations a tick", n)
	}
}

func BenchmarkGroup(b *testing.B) {
	g := NewGroup(quiet(), Item{Name: "a", Reader: &scripted{metric: report.Load1}})
	defer g.Close()
	var tick report.Tick
	b.ReportAllocs()
	for b.Loop() {
		tick.Reset()
		g.Read(&tick)
	}
}

// prompted is a source that says that it never waits.
type prompted struct{ scripted }

func (*prompted) Prompt() bool { return true }

func TestAPromptSourceIsReadWithoutAWorker(t *testing.T) {
	a, b := &prompted{scripted{metric: report.Load1}}, &prompted{scripted{metric: report.FanSpeed, err: errors.New("EIO")}}
	g := NewGroup(quiet(), Item{Name: "a", Reader: a}, Item{Name: "b", Reader: b})
	expect(t, g, map[any]int64{report.Load1: 1, report.FanSpeed: 1, "b": 1})
	if g.worker != nil {
		t.Error("a worker was hired")
	}
	if err := g.Close(); err != nil || a.closed != 1 || b.closed != 1 {
		t.Errorf("closed %d and %d times: %v", a.closed, b.closed, err)
	}
}
