package storage_test

import (
	"fmt"
	"testing"
	"time"

	"bramble/storage"
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
	add(t, r.raw, rows)
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
