package spool

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"bramble/pisensor/report"
)

const megabyte = 1 << 20

// TestSpoolAgainstPlainSlices compares the spool with an obvious one, through
// random ticks, acknowledgements and eras.
func TestSpoolAgainstPlainSlices(t *testing.T) {
	type plain struct {
		era      int64
		elapsed  int64
		readings map[report.Series]int64
	}
	r := rand.New(rand.NewPCG(1, 2))
	s := New(megabyte)
	s.SetAnchor(0)
	want := map[uint64]plain{}
	var elapsed int64
	era := int64(0)
	for range 20_000 {
		switch r.IntN(10) {
		default:
			elapsed += 1 + r.Int64N(20_000)
			if r.IntN(500) == 0 {
				era++
				s.SetAnchor(era)
			}
			p := plain{era, elapsed, map[report.Series]int64{}}
			var tick report.Tick
			for m := range r.IntN(12) {
				v := r.Int64N(1<<40) - 1<<39
				tick.Add(report.Metric(m+1), v)
				p.readings[report.Series{Metric: report.Metric(m + 1)}] = v
			}
			want[s.Add(elapsed, tick.Readings)] = p
		case 0, 1:
			x := report.Range{First: r.Uint64N(s.Next() + 3), Count: r.Uint64N(30)}
			s.Ack(x)
			for n := x.First; n < x.First+x.Count; n++ {
				delete(want, n)
			}
		case 2:
			first, count := s.Run(s.Next()-1-min(s.Next()-1, r.Uint64N(1<<r.IntN(14))), s.Next(), 1+r.IntN(300)) // often the newest alone
			if count == 0 {
				continue
			}
			var got report.Report
			s.Fill(&got, first, count)
			for i := range count {
				p, ok := want[first+uint64(i)]
				if !ok || p.elapsed != got.Elapsed[i] || p.era != got.Anchor {
					t.Fatalf("tick %d: %v at %d, era %d", first+uint64(i), p, got.Elapsed[i], got.Anchor)
				}
				n := 0
				for _, c := range got.Columns {
					if v, ok := p.readings[c.Series]; ok && v == c.Values[i] {
						n++
					} else if c.Values[i] != report.Missing {
						t.Fatalf("tick %d, %v: %d, want %d", first+uint64(i), c.Series, c.Values[i], v)
					}
				}
				if n != len(p.readings) {
					t.Fatalf("tick %d has %d of %d readings", first+uint64(i), n, len(p.readings))
				}
			}
		}
	}
	readings := 0
	for n, p := range want {
		readings += len(p.readings)
		if !s.Waits(n, 1) {
			t.Errorf("tick %d is gone", n)
		}
	}
	if readings != s.Readings() || s.Dropped() != 0 {
		t.Errorf("%d readings wait, want %d; %d dropped", s.Readings(), readings, s.Dropped())
	}
}

func TestMoreSeriesThanABoardMayHaveAreDroppedAndCounted(t *testing.T) {
	s := New(megabyte)
	var tick report.Tick
	for i := range 70 {
		tick.AddInstance(report.NetworkReceive, "eth"+strconv.Itoa(i), int64(i))
	}
	s.Add(1, tick.Readings)
	if s.Readings() != report.MaxColumns || s.Dropped() != 6 {
		t.Errorf("%d kept, %d dropped", s.Readings(), s.Dropped())
	}
	s.Ack(report.Range{First: 1, Count: 1})
	s.Add(2, tick.Readings[60:])
	if s.Readings() != 10 || s.Dropped() != 6 {
		t.Errorf("once the first are acknowledged: %d kept, %d dropped", s.Readings(), s.Dropped())
	}
}

func TestASeriesStandsOnceInATick(t *testing.T) {
	s := New(megabyte)
	var tick report.Tick
	tick.Add(report.Load1, 1)
	tick.Add(report.Load1, 2)
	tick.AddInstance(report.NetworkReceive, "a b", 3)
	s.Add(1, tick.Readings)
	if s.Readings() != 1 || s.Dropped() != 2 {
		t.Errorf("%d kept, %d dropped", s.Readings(), s.Dropped())
	}
}

func TestTicksWaitForTheFirstAnchor(t *testing.T) {
	s := New(megabyte)
	var tick report.Tick
	tick.Add(report.Load1, 1)
	s.Add(10, tick.Readings)
	if _, n := s.Run(0, s.Next(), 9); n != 0 {
		t.Errorf("%d ticks before the anchor is known", n)
	}
	s.SetAnchor(1000)
	s.Add(20, tick.Readings)
	s.SetAnchor(2000)
	s.Add(30, tick.Readings)
	for _, want := range []report.Report{{First: 1, Anchor: 1000, Elapsed: []int64{10, 20}}, {First: 3, Anchor: 2000, Elapsed: []int64{30}}} {
		first, n := s.Run(want.First, s.Next(), 9)
		var r report.Report
		s.Fill(&r, first, n)
		if r.First != want.First || r.Anchor != want.Anchor || !slices.Equal(r.Elapsed, want.Elapsed) {
			t.Errorf("tick %d at %d + %d, want %d at %d + %d", r.First, r.Anchor, r.Elapsed, want.First, want.Anchor, want.Elapsed)
		}
	}
}
