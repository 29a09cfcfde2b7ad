package storage_test

import (
	"fmt"
	"testing"
	"time"

	"bramble/storage"
	"bramble/storage/storagetest"
)

// TestHistoriesAreAlikeWithAndWithoutRollups asks a store of readings by queries, as a remote one is asked, and compares.
func TestHistoriesAreAlikeWithAndWithoutRollups(t *testing.T) {
	differences := []storage.Difference{{Metric: "pi_cpu_clock_hertz", Label: "source", Of: "requested", Less: "measured", As: "pi_cpu_clock_lost_hertz"}}
	r := roll(t, t.TempDir(), aYear, storage.RollupOptions{Differences: differences})
	clock := func(source string) storage.Series {
		return series("pi_cpu_clock_hertz", "board", "b1", "source", source)
	}
	end := align(time.Now().Add(-time.Hour), 4*bucket)
	var rows []storage.Row
	for at := end.Add(-12 * time.Hour); at.Before(end); at = at.Add(10 * time.Second) {
		hertz := []float64{600e6, 1000e6, 1500e6}[at.Unix()/600%3]
		lost := 0.0
		if at.Unix()/10%101 == 0 {
			lost = 100e6
		}
		rows = append(rows, storage.Row{Series: clock("requested"), At: at.UnixMilli(), Value: hertz}, storage.Row{Series: clock("measured"), At: at.UnixMilli(), Value: hertz - lost})
	}
	storagetest.Add(t, r.raw, rows)
	for _, metric := range []string{"pi_cpu_clock_hertz", "pi_cpu_clock_lost_hertz"} {
		q := storage.HistoryQuery{Metric: metric, Match: []storage.Label{{Name: "board", Value: "b1"}}, Start: end.Add(-11 * time.Hour), End: end.Add(-time.Hour), Step: 4 * bucket}
		if metric == "pi_cpu_clock_hertz" {
			q.By = []string{"source"}
		}
		want, err := r.History(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		got, err := storage.QueryHistory(t.Context(), r.raw, differences, q)
		if err != nil {
			t.Fatal(err)
		}
		if len(want) == 0 || len(want[0].At) < 10 || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s by queries:\n%+v\nwant\n%+v", metric, got, want)
		}
	}
	if _, err := storage.QueryHistory(t.Context(), r.raw, nil, storage.HistoryQuery{Metric: "x", Step: 1}); err == nil {
		t.Error("a bad question is answered")
	}
}

// TestDifferenceHasTheStepsOfItsSeries: boards report at instants of their own, so short steps of a difference must not
// depend on when it is evaluated. Each step in which both series have a reading has the difference.
func TestDifferenceHasTheStepsOfItsSeries(t *testing.T) {
	differences := []storage.Difference{{Metric: "pi_cpu_clock_hertz", Label: "source", Of: "requested", Less: "measured", As: "pi_cpu_clock_lost_hertz"}}
	r := roll(t, t.TempDir(), aYear, storage.RollupOptions{Differences: differences})
	clock := func(source string) storage.Series {
		return series("pi_cpu_clock_hertz", "board", "b1", "source", source)
	}
	end := align(time.Now().Add(-time.Hour), bucket)
	begin := end.Add(-15 * time.Minute)
	var rows []storage.Row
	for at := begin.Add(3400 * time.Millisecond); at.Before(end); at = at.Add(10 * time.Second) {
		rows = append(rows, storage.Row{Series: clock("requested"), At: at.UnixMilli(), Value: 1200e6}, storage.Row{Series: clock("measured"), At: at.UnixMilli(), Value: 600e6})
	}
	storagetest.Add(t, r.raw, rows)
	for _, step := range []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 15 * time.Second, time.Minute} {
		of := func(metric string, by ...string) []storage.Span {
			spans, err := storage.QueryReadings(t.Context(), r.raw, differences, storage.HistoryQuery{Metric: metric, Match: []storage.Label{{Name: "board", Value: "b1"}}, By: by, Start: begin, End: end, Step: step})
			if err != nil {
				t.Fatal(err)
			}
			return spans
		}
		clocks, lost := of("pi_cpu_clock_hertz", "source"), of("pi_cpu_clock_lost_hertz")
		if len(clocks) != 2 || len(lost) != 1 {
			t.Fatalf("step %s: %d clocks and %d differences", step, len(clocks), len(lost))
		}
		known := map[int64]float64{}
		for i, at := range lost[0].At {
			known[at] = lost[0].Max[i]
		}
		for _, at := range clocks[0].At {
			if known[at] != 600e6 {
				t.Errorf("step %s: %v lost at %s, want 6e8", step, known[at], time.UnixMilli(at).UTC())
				break
			}
		}
	}
}
