package sim

import (
	"testing"
	"time"

	"bramble/pisensor/report"
)

// One second of one board.
func BenchmarkStep(b *testing.B) {
	board := New(Options{Model: ModelNamed("5"), Seed: 1, Start: start, Load: Builds(1, 4)})
	b.ReportAllocs()
	at := start
	for b.Loop() {
		at = at.Add(time.Second)
		board.Advance(at)
	}
}

// A day of one board, read every 10 s, as the demo's past is made.
func BenchmarkDay(b *testing.B) {
	var tick report.Tick
	b.ReportAllocs()
	for b.Loop() {
		board := New(Options{Model: ModelNamed("3B"), Seed: 1, Start: start, Load: Bursts(1, 4)})
		for s := range 8640 {
			tick.Reset()
			board.ReadAt(start.Add(time.Duration(s)*10*time.Second), &tick)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/day")
}
