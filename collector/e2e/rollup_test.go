package e2e

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bramble/storage"
)

// TestReadingsAreRolledUpAndOutliveTheirRetention starts a real collector, with a retention of 90 days, on the data of one
// that kept a year, with one reading of 90 °C in it; kills it; and starts it again: first the year is rolled up, then it
// expires, and the peak is still in the history of the year.
func TestReadingsAreRolledUpAndOutliveTheirRetention(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	s.do("", "board", "add", "b1")
	if code := s.stop(t, time.Minute); code != 0 {
		t.Fatalf("exit %d", code)
	}
	peak := time.Now().Add(-300 * 24 * time.Hour).Truncate(time.Hour)
	aYearOfReadings(t, filepath.Join(s.dir, "series"), peak)
	s.start()
	rolledUp := func() {
		t.Helper()
		eventually(t, time.Minute, func() error {
			var status struct{ BucketSeconds, RawSeconds, Until int64 }
			if err := s.json("api/rollups", &status); err != nil {
				return err
			}
			if status.BucketSeconds != 900 || status.RawSeconds != 90*86400 || time.Since(time.UnixMilli(status.Until)) > 10*24*time.Hour {
				return fmt.Errorf("rollups: %+v", status)
			}
			return nil
		})
	}
	rolledUp()
	s.kill()
	s.start()
	rolledUp()
	if behind := s.metric("bramble_rollup_behind_seconds"); behind < 8*86400 || behind > 9*86400+2*3600 {
		t.Errorf("%v s behind", behind)
	}
	if kept := s.metric("bramble_rollup_raw_retention_seconds"); kept != 90*86400 {
		t.Errorf("raw readings are kept for %v s", kept)
	}
	if n := counted(t, s, "api/v1/query", `count_over_time(pi_soc_temperature_celsius[2y])`); n < 89*24 || n > 122*24 {
		t.Errorf("%v raw readings are left, want those of 90 days and the rest of their blocks and months", n)
	}
	if v := counted(t, s, "rollups/api/v1/query", `max_over_time(pi_soc_temperature_celsius:15m_max{board="b1"}[2y])`); v != 90 {
		t.Errorf("the highest of two years is %v", v)
	}
	if n := counted(t, s, "rollups/api/v1/query", `sum_over_time(pi_soc_temperature_celsius:15m_count[2y])`); n < 350*24 || n > 360*24 {
		t.Errorf("%v readings are rolled up", n)
	}
	var history struct {
		Spans []struct{ Min, Max, Mean, Count []float64 }
	}
	q := url.Values{"metric": {"pi_soc_temperature_celsius"}, "step": {"86400"}, "end": {fmt.Sprint(time.Now().UnixMilli())}, "start": {fmt.Sprint(time.Now().Add(-364 * 24 * time.Hour).UnixMilli())}}
	if err := s.json("api/boards/b1/history?"+q.Encode(), &history); err != nil {
		t.Fatal(err)
	}
	if len(history.Spans) != 1 {
		t.Fatalf("history: %+v", history)
	}
	peaks, days := 0, history.Spans[0]
	for i := range days.Max {
		if days.Max[i] == 90 {
			peaks++
		}
		if days.Count[i] != 24 && i > 0 && i < len(days.Max)-1 {
			t.Errorf("day %d has %v readings, want 24", i, days.Count[i])
		}
	}
	if peaks != 1 || len(days.Max) < 363 {
		t.Errorf("%d peaks in %d days", peaks, len(days.Max))
	}
	if code := s.stop(t, time.Minute); code != 0 {
		t.Errorf("exit %d", code)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "rollups", "data")); err != nil {
		t.Error(err)
	}
}

// aYearOfReadings puts one an hour into a store.
func aYearOfReadings(t *testing.T, dir string, peak time.Time) {
	t.Helper()
	store, err := storage.Open(dir, storage.Options{Retention: 400 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	series := storage.SeriesOf([]storage.Label{{Name: "__name__", Value: "pi_soc_temperature_celsius"}, {Name: "board", Value: "b1"}})
	var rows []storage.Row
	for at := time.Now().Add(-365 * 24 * time.Hour).Truncate(time.Hour); at.Before(time.Now()); at = at.Add(time.Hour) {
		celsius := 50 + float64(at.Unix()/3600%10)
		if at.Equal(peak) {
			celsius = 90
		}
		rows = append(rows, storage.Row{Series: series, At: at.UnixMilli(), Value: celsius})
	}
	if err := errors.Join(store.Add(rows), store.Close()); err != nil {
		t.Fatal(err)
	}
}

// counted is the single value that an instant query has.
func counted(t *testing.T, s *server, path, expr string) float64 {
	t.Helper()
	var answer struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	if err := s.json(path+"?"+url.Values{"query": {expr}}.Encode(), &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Data.Result) != 1 {
		t.Fatalf("%s %s has %d results", path, expr, len(answer.Data.Result))
	}
	var v float64
	if _, err := fmt.Sscan(answer.Data.Result[0].Value[1].(string), &v); err != nil {
		t.Fatal(err)
	}
	return v
}
