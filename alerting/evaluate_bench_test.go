package alerting

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"bramble/storage"
)

// slowRules are what one reading cannot decide: windows, counters, series that are compared. %[1]d makes them differ.
var slowRules = []string{
	"max_over_time(m0[1%[1]dm]) - min_over_time(m0[1%[1]dm]) > 30",
	"resets(m1[2%[1]dm]) >= 3",
	"increase(m1[1%[1]dm]) > 1e6",
	"rate(m1[1%[1]dm]) > 1e6",
	"avg_over_time(m0[%[1]dm]) > 90",
	"m0 - %[1]d * m2 > 90",
	"m0 > 1.%[1]d * m2 and m2 > 8%[1]d",
	"m0 offset %[1]dm - m0 > 90",
	"count by (rack) (m0 > 9%[1]d) / count by (rack) (m0) > 0.5",
	"delta(m2[1%[1]dm]) > 90",
}

// BenchmarkEvaluateFleet evaluates 30 rules on 10,000 boards, each group once, and reports the CPU time as a share of one core
// at the group's interval: 15 s, the default, and 1 min, that of the default rules for windows. "thresholds" are ten expressions
// with three limits each, as rules with severities have them; in "distinct" no two rules ask for the same.
func BenchmarkEvaluateFleet(b *testing.B) {
	const boards = 10_000
	store := openSeries(b)
	end := time.Now().Truncate(time.Minute)
	fillFleet(b, store, boards, end)
	for _, kind := range []string{"distinct", "thresholds"} {
		var list strings.Builder
		for i := range 30 {
			shape, n := slowRules[i%len(slowRules)], i/len(slowRules)
			expr := fmt.Sprintf(shape, 5)
			if kind == "distinct" {
				expr = fmt.Sprintf(shape, n+3)
			}
			fmt.Fprintf(&list, "  - {alert: A%d, expr: '%s%d', for: 1m, keep_firing_for: 5m}\n", i, expr, n)
		}
		for _, hits := range []string{"", "  - {alert: Hit, expr: 'm3 > 0 and m3 offset 1m'}\n"} {
			b.Run(kind+map[bool]string{true: "/quiet", false: "/100 firing"}[hits == ""], func(b *testing.B) {
				benchmarkEvaluate(b, store, NewEngine(mustRules(b, list.String()+hits)), end.Add(-time.Minute))
			})
		}
	}
}

func benchmarkEvaluate(b *testing.B, store *storage.Store, e *Engine, at time.Time) {
	if _, err := e.Evaluate(b.Context(), store, at); err != nil {
		b.Fatal(err)
	}
	before := cpuTime(b)
	for b.Loop() {
		at = at.Add(time.Second)
		e.evaluated = map[string]*evaluation{}
		if _, err := e.Evaluate(b.Context(), store, at); err != nil {
			b.Fatal(err)
		}
	}
	used := (cpuTime(b) - before).Seconds() / float64(b.N)
	b.ReportMetric(1000*used, "CPU-ms/evaluation")
	b.ReportMetric(100*used/15, "%core/15s")
	b.ReportMetric(100*used/60, "%core/1m")
}

func fillFleet(b *testing.B, store *storage.Store, boards int, end time.Time) {
	b.Helper()
	names := make([][4]storage.Series, boards)
	for i := range names {
		for m := range names[i] {
			names[i][m] = storage.SeriesOf(labels(fmt.Sprint("m", m), fmt.Sprintf("r%d-%d", i/48, i), "rack", fmt.Sprint("r", i/48), "model", "4B"))
		}
	}
	var rows []storage.Row
	for step := 180; step >= 0; step-- {
		at := end.Add(-time.Duration(step) * 10 * time.Second).UnixMilli()
		rows = rows[:0]
		for i := range names {
			for m, v := range []float64{60 + float64((i+step)%7), float64(10_000 - step), 60 + float64((i*step)%5), float64(1 - min(1, i/100))} {
				rows = append(rows, storage.Row{Series: names[i][m], At: at, Value: v})
			}
		}
		if err := store.Add(rows); err != nil {
			b.Fatal(err)
		}
	}
	if err := store.Barrier(); err != nil {
		b.Fatal(err)
	}
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
