package main

import (
	"io"
	"log/slog"
	"testing"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// BenchmarkRead reads a board like a Pi: all sources in one pass as in a tick
// at the default rate, as in live mode, and each alone. The kernel's files are
// this machine's own.
func BenchmarkRead(b *testing.B) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	roots := piLike(b)
	f := func(name string, keep func(source.Item) (source.Item, bool)) {
		b.Run(name, func(b *testing.B) {
			opened := openBoard(roots, log)
			var items []source.Item
			for _, i := range append(opened.soc.Items(), opened.host.Items()...) {
				if i, ok := keep(i); ok {
					items = append(items, i)
				}
			}
			g := source.NewGroup(log, items...)
			defer g.Close()
			var tick report.Tick
			for range untilLooksAreRare {
				g.Read(&tick)
			}
			b.ReportAllocs()
			for b.Loop() {
				tick.Reset()
				g.Read(&tick)
			}
			b.ReportMetric(float64(len(tick.Readings)), "readings")
		})
	}
	f("tick", func(i source.Item) (source.Item, bool) { return everyTick(i), true })
	f("live", func(i source.Item) (source.Item, bool) { return i, true })
	opened := openBoard(roots, log)
	for _, one := range append(opened.soc.Items(), opened.host.Items()...) {
		f(one.Name, func(i source.Item) (source.Item, bool) { i.Every = 0; return i, i.Name == one.Name })
	}
}
