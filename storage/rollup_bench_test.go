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
	raw := openBench(b)
	end := time.Now().Add(-late - rollupMargin).Truncate(rollupChunk)
	var batch []Row
	n := 0
	ds := boards(200)
	for at := end.Add(-rollupChunk + 10*time.Second); !at.After(end); at = at.Add(10 * time.Second) {
		for _, d := range ds {
			batch = d.tick(batch, at.UnixMilli())
		}
		if len(batch) >= 2000 {
			n += flushBatch(b, raw, batch)
			batch = batch[:0]
		}
	}
	n += flushBatch(b, raw, batch)
	if err := raw.db.ForceMergePartitions(""); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		rolled := openBench(b)
		r, err := NewRollups(b.Context(), RollupOptions{Raw: raw, Rolled: rolled, Late: late})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		cpu := cpuSeconds(b)
		if err := r.chunk(b.Context(), end.Add(-rollupChunk), end); err != nil {
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
