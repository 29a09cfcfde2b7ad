package sensor

import (
	"math/rand/v2"
	"testing"

	"bramble/pisensor/report"
)

func everyEra(int) bool { return true }

// TestSpoolAgainstPlainSlices compares the spool with an obvious one, through
// random ticks, acknowledgements and eras.
func TestSpoolAgainstPlainSlices(t *testing.T) {
	type plain struct {
		era      int
		elapsed  int64
		readings map[report.Series]int64
	}
	r := rand.New(rand.NewPCG(1, 2))
	s := newSpool(DefaultSpoolBytes)
	want := map[uint64]plain{}
	var elapsed int64
	era := 0
	for range 20_000 {
		switch r.IntN(10) {
		default:
			elapsed += 1 + r.Int64N(20_000)
			if r.IntN(500) == 0 {
				era++
			}
			p := plain{era, elapsed, map[report.Series]int64{}}
			var tick report.Tick
			for m := range r.IntN(12) {
				v := r.Int64N(1<<40) - 1<<39
				tick.Add(report.Metric(m+1), v)
				p.readings[report.Series{Metric: report.Metric(m + 1)}] = v
			}
			want[s.add(era, elapsed, tick.Readings)] = p
		case 0, 1:
			x := report.Range{First: r.Uint64N(s.next + 3), Count: r.Uint64N(30)}
			s.ack(x)
			for n := x.First; n < x.First+x.Count; n++ {
				delete(want, n)
			}
		case 2:
			first, count := s.run(r.Uint64N(s.next), s.next, 1+r.IntN(300), everyEra)
			if count == 0 {
				continue
			}
			var got report.Report
			s.fill(&got, first, count)
			for i := range count {
				p, ok := want[first+uint64(i)]
				if !ok || p.elapsed != got.Elapsed[i] || p.era != s.eraOf(first) {
					t.Fatalf("tick %d: %v at %d, era %d", first+uint64(i), p, got.Elapsed[i], s.eraOf(first))
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
		if !s.waits(n, 1) {
			t.Errorf("tick %d is gone", n)
		}
	}
	if readings != s.readings || s.dropped != 0 {
		t.Errorf("%d readings wait, want %d; %d dropped", s.readings, readings, s.dropped)
	}
}

func TestSpoolRefusesMoreSeriesThanABoardMayHave(t *testing.T) {
	s := newSpool(DefaultSpoolBytes)
	var tick report.Tick
	for i := range 70 {
		tick.AddInstance(report.NetworkReceive, string(rune('A'+i)), int64(i))
	}
	s.add(0, 1, tick.Readings)
	if s.readings != report.MaxColumns || s.dropped != 6 {
		t.Errorf("%d kept, %d dropped", s.readings, s.dropped)
	}
}

func BenchmarkSpoolFullOfADay(b *testing.B) {
	source := &readings{n: 15}
	var tick report.Tick
	for b.Loop() {
		s := newSpool(DefaultSpoolBytes)
		for i := range int64(8640) {
			tick.Reset()
			source.Read(&tick)
			s.add(0, i*10_000, tick.Readings)
		}
		if s.dropped > 0 {
			b.Fatalf("%d readings dropped", s.dropped)
		}
		b.ReportMetric(float64(len(s.chunks)*(chunkSize+chunkOverhead)), "bytes/day")
	}
}
