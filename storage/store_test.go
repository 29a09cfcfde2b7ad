package storage_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"bramble/storage"
)

func open(t testing.TB, dir string, o storage.Options) *storage.Store {
	t.Helper()
	s, err := storage.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func temperature(board string) storage.Series {
	return storage.SeriesOf([]storage.Label{
		{Name: "__name__", Value: "pi_soc_temperature_celsius"}, {Name: "board", Value: board}, {Name: "rack", Value: "r1"},
	})
}

// rows returns n rows a second apart that begin at start; the values are not monotonous and not whole.
func rows(series storage.Series, start time.Time, n int) []storage.Row {
	out := make([]storage.Row, n)
	for i := range out {
		out[i] = storage.Row{Series: series, At: start.UnixMilli() + int64(i)*1000, Value: 40 + float64(i*7%100)/8}
	}
	return out
}

func add(t testing.TB, s *storage.Store, rs []storage.Row) {
	t.Helper()
	if err := s.Add(rs); err != nil {
		t.Fatal(err)
	}
}

func query(t testing.TB, s *storage.Store, expr string, at time.Time) []storage.Result {
	t.Helper()
	rs, err := s.Query(context.Background(), expr, at)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// number returns the single value that expr has at one time, NaN for none.
func number(t testing.TB, s *storage.Store, expr string, at time.Time) float64 {
	t.Helper()
	rs := query(t, s, expr, at)
	switch len(rs) {
	case 0:
		return math.NaN()
	case 1:
		return rs[0].Values[0]
	}
	t.Fatalf("%s has %d series", expr, len(rs))
	return 0
}

// anHourAgo is on a whole second, so that steps meet the rows.
func anHourAgo() time.Time { return time.Now().Add(-time.Hour).Truncate(time.Second) }

func TestEachAddIsVisibleToTheNextQuery(t *testing.T) {
	s := open(t, t.TempDir(), storage.Options{})
	now := time.Now()
	for i := range 30 { // a new series each time: its index entry has to be visible too
		board := fmt.Sprint("b", i)
		add(t, s, []storage.Row{{Series: temperature(board), At: now.UnixMilli(), Value: float64(i)}})
		if got := number(t, s, `pi_soc_temperature_celsius{board="`+board+`"}`, now); got != float64(i) {
			t.Fatalf("row %d: got %v", i, got)
		}
	}
}

func TestThreeDeliveriesCountOnce(t *testing.T) {
	dir := t.TempDir()
	start := anHourAgo()
	delivered := rows(temperature("b1"), start, 1000)
	count := func(s *storage.Store) float64 {
		return number(t, s, `count_over_time(pi_soc_temperature_celsius[2000s])`, start.Add(1000*time.Second))
	}
	s := open(t, dir, storage.Options{})
	add(t, s, delivered)
	add(t, s, delivered[500:])
	if got := count(s); got != 1000 {
		t.Fatalf("in memory: %v rows, want 1000", got)
	}
	if err := s.Barrier(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, storage.Options{})
	add(t, s, delivered)
	if got := count(s); got != 1000 {
		t.Fatalf("after a restart: %v rows, want 1000", got)
	}
}

func TestStoresDoNotSeeEachOther(t *testing.T) {
	now := anHourAgo()
	var open8 []*storage.Store
	for i := range 8 {
		s := open(t, t.TempDir(), storage.Options{})
		add(t, s, []storage.Row{{Series: temperature("b1"), At: now.UnixMilli(), Value: float64(i)}})
		open8 = append(open8, s)
	}
	for range 3 { // the later rounds find whatever the first has cached
		for i, s := range open8 {
			if got := number(t, s, `pi_soc_temperature_celsius`, now); got != float64(i) {
				t.Fatalf("store %d answers %v", i, got)
			}
			if _, err := s.Query(context.Background(), `pi_soc_temperature_celsius{__bramble_store__="1"}`, now); i > 0 && err == nil {
				t.Fatalf("store %d let a query pick another store", i)
			}
		}
	}
}

func TestGraphiteSelectorsAreErrors(t *testing.T) {
	s := open(t, t.TempDir(), storage.Options{})
	if _, err := s.Query(context.Background(), `{__graphite__="a.*"}`, time.Now()); err == nil {
		t.Error("a Graphite selector was accepted")
	}
}
