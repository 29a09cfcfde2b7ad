package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
)

func OpenBench(b *testing.B) *Store {
	b.Helper()
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// Board is a simulated source of two series a tick: a sensor's steps of 0.487 °C in a slow random walk, and
// a clock that jumps between three settings.
type Board struct {
	Temperature, Clock Series
	celsius            float64
	random             *rand.Rand
}

func Boards(n int) []*Board {
	out := make([]*Board, n)
	for i := range out {
		name := Label{Name: "board", Value: fmt.Sprintf("b%05d", i)}
		rack := Label{Name: "rack", Value: fmt.Sprintf("r%d", i/40)}
		out[i] = &Board{
			Temperature: SeriesOf([]Label{{Name: "__name__", Value: "pi_soc_temperature_celsius"}, name, rack}),
			Clock:       SeriesOf([]Label{{Name: "__name__", Value: "pi_cpu_clock_hertz"}, {Name: "source", Value: "measured"}, name, rack}),
			celsius:     48.7,
			random:      rand.New(rand.NewPCG(1, uint64(i))),
		}
	}
	return out
}

var clocks = []float64{600e6, 1000e6, 1500e6}

func (d *Board) Tick(into []Row, at int64) []Row {
	d.celsius += 0.487 * float64(d.random.IntN(3)-1)
	return append(into, Row{d.Temperature, at, d.celsius}, Row{d.Clock, at, clocks[d.random.IntN(10)%3]})
}

// fill adds ticks of all boards, ending now, and returns the number of rows.
func fill(b *testing.B, s *Store, ds []*Board, ticks int, step time.Duration) (n int) {
	b.Helper()
	at := time.Now().Truncate(step).Add(-time.Duration(ticks) * step)
	var batch []Row
	for range ticks {
		at = at.Add(step)
		for _, d := range ds {
			batch = d.Tick(batch, at.UnixMilli())
		}
		if len(batch) >= 2000 {
			n += FlushBatch(b, s, batch)
			batch = batch[:0]
		}
	}
	return n + FlushBatch(b, s, batch)
}

func FlushBatch(b *testing.B, s *Store, batch []Row) int {
	b.Helper()
	if err := s.Add(batch); err != nil {
		b.Fatal(err)
	}
	return len(batch)
}

func cpuSeconds(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// MergedSizes returns the bytes of a store's rows and index after all merges.
func MergedSizes(b *testing.B, s *Store) (data, index uint64) {
	b.Helper()
	if err := s.db.ForceMergePartitions(""); err != nil {
		b.Fatal(err)
	}
	var m vm.Metrics
	s.db.UpdateMetrics(&m)
	return sizes(&m)
}

// BenchmarkAdd adds batches of 2,000 rows of 1,000 boards, the engine's background work included, and times
// the barrier that follows apart.
func BenchmarkAdd(b *testing.B) {
	s := OpenBench(b)
	ds := Boards(1000)
	at := time.Now().Add(-24 * time.Hour).UnixMilli()
	var batches [][]Row
	for i := range 500 {
		var batch []Row
		for _, d := range ds {
			batch = d.Tick(batch, at+int64(i)*10_000)
		}
		batches = append(batches, batch)
	}
	FlushBatch(b, s, batches[0]) // registers the series
	shift := int64(0)
	b.ResetTimer()
	cpu := cpuSeconds(b)
	for i := range b.N {
		if i%len(batches) == 0 && i > 0 { // a new pass: later times
			shift = int64(len(batches)) * 10_000
			for _, batch := range batches {
				for j := range batch {
					batch[j].At += shift
				}
			}
		}
		FlushBatch(b, s, batches[i%len(batches)])
	}
	b.ReportMetric(float64(b.N*2000)/(cpuSeconds(b)-cpu), "rows/cpu-s")
	b.StopTimer()
	start := time.Now()
	if err := s.Barrier(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(time.Since(start).Seconds()*1e3, "barrier-ms")
}

// BenchmarkBarrier times a barrier after each 20,000 rows of 10,000 boards.
func BenchmarkBarrier(b *testing.B) {
	s := OpenBench(b)
	ds := Boards(10_000)
	at := time.Now().Add(-24 * time.Hour).UnixMilli()
	var batch []Row
	for i := range b.N {
		b.StopTimer()
		batch = batch[:0]
		for _, d := range ds {
			batch = d.Tick(batch, at+int64(i)*1000)
		}
		FlushBatch(b, s, batch)
		b.StartTimer()
		if err := s.Barrier(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRangeOfADay asks for 24 h of one of 100 boards at 10 s.
func BenchmarkRangeOfADay(b *testing.B) {
	s := OpenBench(b)
	fill(b, s, Boards(100), 8640, 10*time.Second)
	if err := s.Barrier(); err != nil {
		b.Fatal(err)
	}
	end := time.Now().Truncate(10 * time.Second)
	start := end.Add(-24 * time.Hour)
	const expr = `pi_soc_temperature_celsius{board="b00042"}`
	b.Run("process", func(b *testing.B) {
		measure(b, func() {
			rs, err := s.QueryRange(context.Background(), expr, start, end, 10*time.Second)
			if err != nil || len(rs) != 1 || len(rs[0].At) < 8640 {
				b.Fatal(len(rs), err)
			}
		})
	})
	b.Run("http", func(b *testing.B) {
		server := httptest.NewServer(s.Handler())
		defer server.Close()
		url := server.URL + "/api/v1/query_range?step=10s&query=" + expr +
			"&start=" + strconv.FormatInt(start.Unix(), 10) + "&end=" + strconv.FormatInt(end.Unix(), 10)
		measure(b, func() {
			resp, err := http.Get(url)
			if err != nil {
				b.Fatal(err)
			}
			n, err := io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err != nil || n < 8640*20 {
				b.Fatal(n, err)
			}
		})
	})
}

// measure reports f's median.
func measure(b *testing.B, f func()) {
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		f()
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1e3, "p50-ms")
}

// BenchmarkFreshRow times an Add of 24 boards' rows and the query that sees them.
func BenchmarkFreshRow(b *testing.B) {
	s := OpenBench(b)
	ds := Boards(24)
	i := int64(0)
	base := time.Now().Add(-time.Hour).UnixMilli()
	measure(b, func() {
		i++
		var batch []Row
		for _, d := range ds {
			batch = d.Tick(batch, base+i)
		}
		FlushBatch(b, s, batch)
		rs, err := s.Query(context.Background(), `pi_soc_temperature_celsius{board="b00007"}`, time.UnixMilli(base+i))
		if err != nil || len(rs) != 1 || math.Abs(rs[0].Values[0]-ds[7].celsius) > 1e-9 {
			b.Fatal(rs, err)
		}
	})
}

// BenchmarkSize reports the bytes a sample of a day of 200 boards at 10 s, merged, index included and apart.
func BenchmarkSize(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		s := OpenBench(b)
		b.StartTimer()
		n := fill(b, s, Boards(200), 8640, 10*time.Second)
		if err := s.Barrier(); err != nil {
			b.Fatal(err)
		}
		if err := s.db.ForceMergePartitions(""); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		var m vm.Metrics
		s.db.UpdateMetrics(&m)
		data, index := sizes(&m)
		b.ReportMetric(float64(data)/float64(n), "B/sample")
		b.ReportMetric(float64(index)/float64(n), "index-B/sample")
		b.StartTimer()
	}
}

// BenchmarkOpen opens a store of 200,000 series over 13 months, two rows of each a month, as it is after a kill: the
// caches that a clean stop leaves are removed.
func BenchmarkOpen(b *testing.B) {
	const series, months = 200_000, 13
	dir := b.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	all := make([]Series, series)
	for i := range all {
		all[i] = SeriesOf([]Label{{Name: "__name__", Value: fmt.Sprintf("m%d", i%20)}, {Name: "board", Value: fmt.Sprintf("b%05d", i/20)}, {Name: "rack", Value: fmt.Sprintf("r%d", i/800)}})
	}
	now := time.Now()
	for m := range months {
		month := now.AddDate(0, -m, 0)
		at := time.Date(month.Year(), month.Month(), 1, 0, 0, 0, 0, time.UTC).UnixMilli()
		batch := make([]Row, 0, 10_000)
		for i := range all {
			batch = append(batch, Row{all[i], at, 1}, Row{all[i], at + 10_000, 2})
			if len(batch) == cap(batch) {
				FlushBatch(b, s, batch)
				batch = batch[:0]
			}
		}
	}
	if err := errors.Join(s.Barrier(), s.Close()); err != nil {
		b.Fatal(err)
	}
	for _, cold := range []bool{false, true} {
		b.Run(map[bool]string{false: "stopped", true: "killed"}[cold], func(b *testing.B) {
			var took []time.Duration
			for range b.N {
				if cold {
					if err := os.RemoveAll(filepath.Join(dir, "cache")); err != nil {
						b.Fatal(err)
					}
				}
				start := time.Now()
				s, err := Open(dir, Options{})
				if err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1e3, "p50-ms")
		})
	}
}
