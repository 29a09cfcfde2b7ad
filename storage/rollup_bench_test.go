package storage

import (
	"testing"
	"time"

	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
)

// BenchmarkRollUp rolls up a day of 200 boards at 10 s, two series each. A fleet of 10,000 boards with 30 series has
// 2.6 thousand million readings a day: cpu-ns/reading times that, over 86,400 s, is what it costs of a core.
func BenchmarkRollUp(b *testing.B) {
	const late = 8 * 24 * time.Hour
	raw := OpenBench(b)
	end := time.Now().Add(-late - rollupMargin).Truncate(rollupChunk)
	var batch []Row
	n := 0
	ds := Boards(200)
	for at := end.Add(-rollupChunk + 10*time.Second); !at.After(end); at = at.Add(10 * time.Second) {
		for _, d := range ds {
			batch = d.Tick(batch, at.UnixMilli())
		}
		if len(batch) >= 2000 {
			n += FlushBatch(b, raw, batch)
			batch = batch[:0]
		}
	}
	n += FlushBatch(b, raw, batch)
	if err := raw.db.ForceMergePartitions(""); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		rolled := OpenBench(b)
		r, err := NewRollups(b.Context(), RollupOptions{Raw: raw, Rolled: rolled, Late: late})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		cpu := cpuSeconds(b)
		if _, err := r.chunk(b.Context(), end.Add(-rollupChunk), end); err != nil {
			b.Fatal(err)
		}
		if err := markRolled(rolled, end, time.Now()); err != nil {
			b.Fatal(err)
		}
		perReading := (cpuSeconds(b) - cpu) / float64(n)
		b.ReportMetric(perReading*1e9, "cpu-ns/reading")
		b.ReportMetric(100*perReading*10_000*30*8640/86_400, "%core/10k-boards")
		b.StopTimer()
		if err := rolled.db.ForceMergePartitions(""); err != nil {
			b.Fatal(err)
		}
		var m vm.Metrics
		rolled.db.UpdateMetrics(&m)
		data, index := sizes(&m)
		b.ReportMetric(float64(data)/(96*400), "B/bucket")
		b.ReportMetric(float64(index)/400, "index-B/series")
		b.StartTimer()
	}
}

// BenchmarkHistoryOfAYear asks for a year of one of 20 boards in days: buckets of the rollups, and the last ten days of
// readings at 10 s.
func BenchmarkHistoryOfAYear(b *testing.B) {
	raw, rolled := OpenBench(b), OpenBench(b)
	end := time.Now().Truncate(rollupChunk)
	until := end.AddDate(0, 0, -9)
	var ro roller
	for i, d := range Boards(20) {
		var name vm.MetricName
		if err := name.UnmarshalRaw(d.Temperature); err != nil {
			b.Fatal(err)
		}
		var at []int64
		var values []float64
		for t := until.AddDate(-1, 0, 0); t.Before(until); t = t.Add(Bucket) {
			at, values = append(at, t.UnixMilli()), append(values, float64(40+t.Unix()/900%50))
		}
		ro.rows = ro.rows[:0]
		ro.roll(&name, at, values)
		FlushBatch(b, rolled, ro.rows)
		var batch []Row
		for t := until; i == 0 && t.Before(end); t = t.Add(10 * time.Second) {
			batch = d.Tick(batch, t.UnixMilli())
		}
		FlushBatch(b, raw, batch)
	}
	for _, s := range []*Store{raw, rolled} {
		if err := s.Barrier(); err != nil {
			b.Fatal(err)
		}
	}
	r := &Rollups{RollupOptions: RollupOptions{Raw: raw, Rolled: rolled}, until: until}
	measure(b, func() {
		spans, err := r.History(b.Context(), HistoryQuery{
			Metric: "pi_soc_temperature_celsius", Match: []Label{{Name: "board", Value: "b00000"}}, Start: end.AddDate(-1, 0, 0), End: end, Step: rollupChunk,
		})
		if err != nil || len(spans) != 1 || len(spans[0].At) < 360 {
			b.Fatal(len(spans), err)
		}
	})
}
