package storage_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

func TestWhatWasAddedIsReadBackExactly(t *testing.T) {
	s := open(t, t.TempDir(), storage.Options{})
	start := anHourAgo()
	added := rows(temperature("b1"), start, 500)
	add(t, s, added)

	got, err := s.QueryRange(context.Background(), `pi_soc_temperature_celsius{board="b1"}`, start, start.Add(499*time.Second), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	want := storage.Result{Labels: []storage.Label{
		{Name: "__name__", Value: "pi_soc_temperature_celsius"}, {Name: "board", Value: "b1"}, {Name: "rack", Value: "r1"},
	}}
	for _, r := range added {
		want.At, want.Values = append(want.At, r.At), append(want.Values, r.Value)
	}
	if diff := cmp.Diff([]storage.Result{want}, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestDigitsThatAreKept(t *testing.T) {
	s := open(t, t.TempDir(), storage.Options{})
	now := anHourAgo()
	for i, v := range []float64{0, -0.5, 53.576, 1500345728, 999_999_999_999_999, -999_999_999_999_999, math.Inf(1), math.Inf(-1)} {
		board := fmt.Sprint("whole", i)
		add(t, s, []storage.Row{{Series: temperature(board), At: now.UnixMilli(), Value: v}})
		if got := number(t, s, `pi_soc_temperature_celsius{board="`+board+`"}`, now); got != v {
			t.Errorf("%v: got %v", v, got)
		}
	}
	for i, v := range []float64{0.1 + 0.2, math.Pi, 1e-7 / 3, 1.23456789012345e9 + 0.1, 1e300 / 7} {
		board := fmt.Sprint("fraction", i)
		add(t, s, []storage.Row{{Series: temperature(board), At: now.UnixMilli(), Value: v}})
		if got := number(t, s, `pi_soc_temperature_celsius{board="`+board+`"}`, now); math.Abs(got/v-1) > 1e-12 {
			t.Errorf("%v: got %v", v, got)
		}
	}
}

func TestLateRowsShowInARepeatedQuery(t *testing.T) {
	s := open(t, t.TempDir(), storage.Options{})
	start := anHourAgo()
	count := func() int {
		rs, err := s.QueryRange(context.Background(), `sum(pi_soc_temperature_celsius)`, start, start.Add(40*time.Minute), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if len(rs) == 0 {
			return 0
		}
		return len(rs[0].At)
	}
	add(t, s, rows(temperature("b1"), start.Add(39*time.Minute), 61))
	before := count()
	add(t, s, rows(temperature("b1"), start, 39*60))
	if after := count(); before > 10 || after != 241 {
		t.Fatalf("%d points before and %d after the late rows, want a few and 241", before, after)
	}
}

func TestGapsAreLeftOut(t *testing.T) {
	s := open(t, t.TempDir(), storage.Options{})
	start := anHourAgo()
	add(t, s, rows(temperature("b1"), start, 10))
	add(t, s, rows(temperature("b1"), start.Add(30*time.Minute), 10))
	got, err := s.QueryRange(context.Background(), `count_over_time(pi_soc_temperature_celsius[10s])`, start.Add(9*time.Second), start.Add(40*time.Minute), 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || len(got[0].At) != 2 || got[0].Values[0] != 10 || got[0].Values[1] != 10 {
		t.Fatalf("got %+v, want 10 rows at two times", got)
	}
}

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

func TestOfTwoValuesAtOneTimeTheLargerStays(t *testing.T) {
	s := open(t, t.TempDir(), storage.Options{})
	now := anHourAgo()
	for _, v := range []float64{50, 70, 60} {
		add(t, s, []storage.Row{{Series: temperature("b1"), At: now.UnixMilli(), Value: v}})
	}
	if got := number(t, s, `pi_soc_temperature_celsius`, now); got != 70 {
		t.Fatalf("got %v", got)
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

func TestBadQueriesAreErrors(t *testing.T) {
	s := open(t, t.TempDir(), storage.Options{})
	now := time.Now()
	for _, expr := range []string{"", "sum(", `{`, `a{b="c"`, `{__graphite__="a.*"}`} {
		if _, err := s.Query(context.Background(), expr, now); err == nil {
			t.Errorf("%q was accepted", expr)
		}
	}
	rangeQuery := func(start, end time.Time, step time.Duration) error {
		_, err := s.QueryRange(context.Background(), "vector(1)", start, end, step)
		return err
	}
	if rangeQuery(now, now.Add(-time.Second), time.Second) == nil || rangeQuery(now, now, 0) == nil ||
		rangeQuery(now.Add(-24*time.Hour), now, time.Second) == nil {
		t.Error("an impossible range was accepted")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Query(ctx, "vector(1)", now); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestHugeLabelsAreCut(t *testing.T) {
	s := open(t, t.TempDir(), storage.Options{})
	now := anHourAgo()
	series := storage.SeriesOf([]storage.Label{{Name: "__name__", Value: "m"}, {Name: "l", Value: strings.Repeat("x", 100_000)}})
	add(t, s, []storage.Row{{Series: series, At: now.UnixMilli(), Value: 1}})
	got := query(t, s, "m", now)
	if len(got) != 1 || len(got[0].Labels[1].Value) != 4096 {
		t.Fatalf("got %d series", len(got))
	}
}
