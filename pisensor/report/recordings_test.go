package report

import (
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// recordings returns the recordings of real boards as one long report each,
// one tick a row. It skips where they are not beside the checkout.
func recordings(tb testing.TB) map[string]*Report {
	tb.Helper()
	files, _ := filepath.Glob("../../../shared/data/recordings/sbc-bench_*.csv")
	if len(files) == 0 {
		tb.Skip("the recordings of real boards are not here")
	}
	all := make(map[string]*Report, len(files))
	for _, name := range files {
		all[filepath.Base(name)] = recording(tb, name)
	}
	return all
}

func recording(tb testing.TB, name string) *Report {
	f, err := os.Open(name)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		tb.Fatal(err)
	}
	columns := map[string]struct {
		m     Metric
		scale float64
	}{
		"temp_c": {SOCTemperature, 1e3}, "requested_mhz": {ClockRequested, 1e3}, "firmware_mhz": {ClockMeasured, 1},
		"load1": {Load1, 100}, "vcore_v": {CoreVolts, 1e4},
	}
	r := &Report{Session: 0x9e3779b9, Anchor: 1_763_900_000_123, Due: 20_000, First: 1000}
	const uptime = 3_456_789 // ms: a board up for an hour
	for _, row := range rows[1:] {
		t, err := strconv.ParseFloat(row[0], 64)
		if err != nil {
			tb.Fatal(err)
		}
		r.Elapsed = append(r.Elapsed, uptime+int64(t*1e3))
	}
	for i, name := range rows[0] {
		c, ok := columns[name]
		if !ok {
			continue
		}
		values := r.Column(Series{Metric: c.m})
		for j, row := range rows[1:] {
			if v, err := strconv.ParseFloat(row[i], 64); err == nil {
				values[j] = int64(math.Round(v * c.scale))
			}
		}
	}
	return r
}

// cut returns ticks [from, from+n) of r as a report of their own.
func cut(r *Report, from, n int) *Report {
	part := &Report{Session: r.Session, Anchor: r.Anchor, Due: r.Due, First: r.First + uint64(from), Elapsed: r.Elapsed[from : from+n]}
	for _, c := range r.Columns {
		part.Columns = append(part.Columns, Column{c.Series, c.Values[from : from+n]})
	}
	return part
}

// size returns the mean payload bytes a reading over all reports of so many
// readings that the recordings yield.
func size(all map[string]*Report, readings int) float64 {
	var bytes, n int
	for _, r := range all {
		ticks := readings / len(r.Columns)
		for from := 0; from+ticks <= r.Ticks(); from += ticks {
			part := cut(r, from, ticks)
			bytes += len(part.Append(nil))
			n += part.Readings()
		}
	}
	return float64(bytes) / float64(n)
}

func TestPayloadSizeOnRecordings(t *testing.T) {
	all := recordings(t)
	f := func(readings int, limit float64) {
		t.Helper()
		if got := size(all, readings); got > limit {
			t.Errorf("%d readings: %.2f bytes each, at most %.1f", readings, got, limit)
		}
	}
	f(10, 5.5)
	f(60, 4)
}

func BenchmarkPayload(b *testing.B) {
	all := recordings(b)
	for b.Loop() {
		size(all, 60)
	}
	b.ReportMetric(size(all, 10), "B/reading-at-10")
	b.ReportMetric(size(all, 60), "B/reading-at-60")
}

func BenchmarkEncode(b *testing.B) {
	r := cut(recordings(b)["sbc-bench_4hOp.csv"], 0, 12)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = r.Append(buf[:0])
	}
	b.ReportMetric(float64(r.Readings())*float64(b.N)/b.Elapsed().Seconds(), "readings/s")
}

func BenchmarkDecode(b *testing.B) {
	for _, ticks := range []int{2, 12, 60} {
		b.Run(strconv.Itoa(ticks*5), func(b *testing.B) {
			part := cut(recordings(b)["sbc-bench_4hOp.csv"], 0, ticks)
			buf, n := part.Append(nil), part.Readings()
			var r Report
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Decode(buf); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "readings/s")
		})
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	buf := cut(recordings(t)["sbc-bench_4hOp.csv"], 0, 12).Append(nil)
	var r Report
	decode := func() {
		if err := r.Decode(buf); err != nil {
			t.Fatal(err)
		}
	}
	decode()
	if n := testing.AllocsPerRun(100, decode); n != 0 {
		t.Errorf("%v allocations a report", n)
	}
}
