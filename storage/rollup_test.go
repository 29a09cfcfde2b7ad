package storage_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"bramble/storage"
	"bramble/storage/storagetest"
)

const (
	late    = 8 * 24 * time.Hour
	bucket  = storage.Bucket
	aYear   = 366 * 24 * time.Hour
	forever = 100 * aYear
)

// rolling is a raw store with its rollups.
type rolling struct {
	*storage.Rollups
	raw, rolled *storage.Store
	registry    *prometheus.Registry
}

func roll(t testing.TB, dir string, retention time.Duration, o storage.RollupOptions) *rolling {
	t.Helper()
	r := &rolling{registry: prometheus.NewRegistry()}
	r.rolled = storagetest.Open(t, dir+"/rollups", storage.Options{Retention: forever})
	r.raw = storagetest.Open(t, dir+"/series", storage.Options{Retention: retention})
	o.Raw, o.Rolled, o.Late, o.Registerer = r.raw, r.rolled, late, r.registry
	var err error
	if r.Rollups, err = storage.NewRollups(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rolling) catchUp(t testing.TB) {
	t.Helper()
	if err := r.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// readings are those that a test has put into a store: times and values of each series.
type readings map[string][]storage.Row

func series(metric string, labels ...string) storage.Series {
	ls := []storage.Label{{Name: "__name__", Value: metric}}
	for i := 0; i < len(labels); i += 2 {
		ls = append(ls, storage.Label{Name: labels[i], Value: labels[i+1]})
	}
	return storage.SeriesOf(ls)
}

// walk makes readings every 10 s or so with gaps of hours, which begin and end anywhere.
func walk(s storage.Series, from, to time.Time, seed uint64) []storage.Row {
	random := rand.New(rand.NewPCG(7, seed))
	var out []storage.Row
	value := 50.0
	for at := from.UnixMilli(); at <= to.UnixMilli(); {
		value += float64(random.IntN(9)-4) / 8
		out = append(out, storage.Row{Series: s, At: at, Value: value})
		at += 240_000 - at%1000 + int64(random.IntN(3))*17
		if random.IntN(120) == 0 {
			at += int64(random.IntN(5*3600)) * 1000
		}
	}
	return out
}

// expected are the buckets of rows by brute force, by their end.
type expected struct{ min, max, sum, count float64 }

func brute(rows []storage.Row, step time.Duration) map[int64]expected {
	all := map[int64]expected{}
	for _, r := range rows {
		end := (r.At + step.Milliseconds() - 1) / step.Milliseconds() * step.Milliseconds()
		b, ok := all[end]
		if !ok {
			b = expected{math.Inf(1), math.Inf(-1), 0, 0}
		}
		all[end] = expected{min(b.min, r.Value), max(b.max, r.Value), b.sum + r.Value, b.count + 1}
	}
	return all
}

// bucketsOf reads rollups as they lie in their store.
func bucketsOf(t testing.TB, s *storage.Store, selector, suffix string, from, to time.Time) map[int64]float64 {
	t.Helper()
	metric, labels, _ := strings.Cut(selector, "{")
	expr := fmt.Sprintf("last_over_time(%s:15m_%s{%s[15m])", metric, suffix, labels)
	all := map[int64]float64{}
	for ; !from.After(to); from = from.Add(50 * 24 * time.Hour) { // the last instant may begin a piece of its own
		rs, err := s.QueryRange(t.Context(), expr, from, from.Add(50*24*time.Hour-bucket), bucket)
		if err != nil {
			t.Fatal(err)
		}
		if len(rs) > 1 {
			t.Fatalf("%s has %d series", expr, len(rs))
		}
		for _, r := range rs {
			for i, at := range r.At {
				all[at] = r.Values[i]
			}
		}
	}
	return all
}

// day is the begin of the day that is n days ago.
func day(n int) time.Time {
	return time.Now().Truncate(24*time.Hour).AddDate(0, 0, -n)
}

func align(t time.Time, step time.Duration) time.Time {
	return time.UnixMilli(t.UnixMilli() - t.UnixMilli()%step.Milliseconds())
}

func near(a, b float64) bool {
	return a == b || math.Abs(a-b) <= 1e-9*math.Max(math.Abs(a), math.Abs(b))
}

// compare checks the rollups of rows up to until against brute force, and that there are none behind it.
func compare(t testing.TB, s *storage.Store, selector string, rows []storage.Row, until time.Time) {
	t.Helper()
	compareUpTo(t, s, selector, rows, until, time.Now())
}

// compareUpTo leaves rollups behind end alone.
func compareUpTo(t testing.TB, s *storage.Store, selector string, rows []storage.Row, until, end time.Time) {
	t.Helper()
	want := brute(slices.DeleteFunc(slices.Clone(rows), func(r storage.Row) bool { return r.At > until.UnixMilli() }), bucket)
	from := time.UnixMilli(rows[0].At).Truncate(24 * time.Hour)
	for suffix, value := range map[string]func(expected) float64{
		"min": func(e expected) float64 { return e.min }, "max": func(e expected) float64 { return e.max },
		"sum": func(e expected) float64 { return e.sum }, "count": func(e expected) float64 { return e.count },
	} {
		got := bucketsOf(t, s, selector, suffix, from, end)
		maps.DeleteFunc(got, func(at int64, _ float64) bool { return at > end.UnixMilli() })
		if len(got) != len(want) || len(want) == 0 {
			t.Errorf("%s %s: %d buckets, want %d", selector, suffix, len(got), len(want))
		}
		for at, e := range want {
			if v, ok := got[at]; !ok || !near(v, value(e)) {
				t.Errorf("%s %s at %s: %v, want %v", selector, suffix, time.UnixMilli(at).UTC(), v, value(e))
				break
			}
		}
	}
}

func TestEverySeriesIsRolledUpAndGapsStayGaps(t *testing.T) {
	r := roll(t, t.TempDir(), aYear, storage.RollupOptions{})
	from, to := day(75).Add(7*time.Hour), time.Now()
	all := readings{}
	for i, s := range []storage.Series{
		series("pi_soc_temperature_celsius", "board", "b1", "customer", "old"),
		series("pi_soc_temperature_celsius", "board", "b1", "customer", "new"), // relabelled: a series of its own
		series("pi_load1", "board", "b1"),
	} {
		rows := walk(s, from, to, uint64(i))
		storagetest.Add(t, r.raw, rows)
		storagetest.Add(t, r.raw, rows[len(rows)/3:2*len(rows)/3]) // delivered again: counts once
		all[string(s)] = rows
		selector := []string{`pi_soc_temperature_celsius{customer="old"}`, `pi_soc_temperature_celsius{customer="new"}`, `pi_load1{board="b1"}`}[i]
		defer func() { compare(t, r.rolled, selector, rows, r.Until()) }()
	}
	r.catchUp(t)
	if until := r.Until(); until.Before(time.Now().Add(-late-25*time.Hour-time.Minute)) || until.After(time.Now().Add(-late)) || until.Truncate(24*time.Hour) != until {
		t.Errorf("rolled up until %s", until)
	}
	if got := gather(t, r.registry); got["bramble_rollup_readings_total"] == 0 || got["bramble_rollup_expired_seconds_total"] != 0 {
		t.Errorf("metrics: %v", got)
	}
}

// A counter's increases add up to its count, over days, months, a reset and a gap.
func TestIncreasesOfACounterAddUp(t *testing.T) {
	r := roll(t, t.TempDir(), aYear, storage.RollupOptions{})
	s := series("pi_network_receive_bytes_total", "board", "b1")
	from := day(70)
	var rows []storage.Row
	total, counter := 0.0, 1000.0
	for at := from; at.Before(day(12)); at = at.Add(5 * time.Minute) {
		step := float64(len(rows) % 13)
		counter += step
		if len(rows)%3001 == 3000 { // the board booted
			counter = step
		}
		if len(rows) > 0 {
			total += step
		}
		rows = append(rows, storage.Row{Series: s, At: at.UnixMilli(), Value: counter})
	}
	storagetest.Add(t, r.raw, rows)
	r.catchUp(t)
	if got := storagetest.Number(t, r.rolled, `sum_over_time(pi_network_receive_bytes_total:15m_increase[100d])`, time.Now()); got != total {
		t.Errorf("increases add up to %v, want %v", got, total)
	}
	compare(t, r.rolled, `pi_network_receive_bytes_total{board="b1"}`, rows, r.Until())
}

// A reading behind a marker of staleness has none before it to compare with.
func TestACounterThatEndedBeginsAgain(t *testing.T) {
	r := roll(t, t.TempDir(), aYear, storage.RollupOptions{})
	s, at := series("requests_total"), day(20).Add(time.Minute)
	for i, v := range []float64{10, 30, storage.Stale, 50, 51} {
		storagetest.Add(t, r.raw, []storage.Row{{Series: s, At: at.Add(time.Duration(i) * time.Minute).UnixMilli(), Value: v}})
	}
	r.catchUp(t)
	if got := storagetest.Number(t, r.rolled, `sum_over_time(requests_total:15m_increase[100d])`, time.Now()); got != 21 {
		t.Errorf("increases add up to %v, want 21", got)
	}
}

// A history is that of the readings, however much of it is rolled up, and shows the one reading of 90 °C a year ago.
func TestHistoryIsThatOfTheReadings(t *testing.T) {
	dir := t.TempDir()
	r := roll(t, dir, 3*aYear, storage.RollupOptions{})
	s := series("pi_soc_temperature_celsius", "board", "b1", "rack", "r1")
	var rows []storage.Row
	for at := day(730); at.Before(time.Now()); at = at.Add(5 * time.Minute) {
		value := 45 + float64(at.Unix()/300%37)/4
		if at.Equal(day(365).Add(13*time.Hour + 5*time.Minute)) {
			value = 90
		}
		rows = append(rows, storage.Row{Series: s, At: at.UnixMilli() + 123, Value: value})
	}
	storagetest.Add(t, r.raw, rows)
	ask := func(start, end time.Time, step time.Duration) {
		t.Helper()
		spans, err := r.History(t.Context(), storage.HistoryQuery{
			Metric: "pi_soc_temperature_celsius", Match: []storage.Label{{Name: "board", Value: "b1"}}, By: []string{"rack"}, Start: start, End: end, Step: step,
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(spans) != 1 || !slices.Equal(spans[0].Labels, []storage.Label{{Name: "rack", Value: "r1"}}) {
			t.Fatalf("got %+v", spans)
		}
		first, last := align(start, step), align(end.Add(step-time.Millisecond), step)
		want, got := brute(rows, step), spans[0]
		steps := 0
		for at := range want {
			if at > first.UnixMilli() && at <= last.UnixMilli() {
				steps++
			}
		}
		if len(got.At) != steps {
			t.Errorf("%d steps of %s, want %d", len(got.At), step, steps)
		}
		for i, at := range got.At {
			if e := want[at]; !near(got.Min[i], e.min) || !near(got.Max[i], e.max) || got.Count[i] != e.count || !near(got.Mean[i], e.sum/e.count) {
				t.Fatalf("step of %s at %s: %v %v %v %v, want %+v", step, time.UnixMilli(at).UTC(), got.Min[i], got.Max[i], got.Mean[i], got.Count[i], e)
			}
		}
		if start.Before(day(366)) && slices.Max(got.Max) != 90 {
			t.Errorf("the peak of 90 °C is not in steps of %s: the highest is %v", step, slices.Max(got.Max))
		}
	}
	now := time.Now()
	ask(day(100), now, 3*time.Hour) // nothing is rolled up yet
	r.catchUp(t)
	until := r.Until()
	for _, step := range []time.Duration{bucket, 2 * bucket, 7 * bucket} {
		ask(until.Add(-5*24*time.Hour-time.Minute), now, step)
		ask(until.Add(-3*time.Hour), until.Add(3*time.Hour), step)
	}
	ask(day(90), now, 3*time.Hour)
	ask(day(730), now, 24*time.Hour)
	ask(day(730), now, 25*time.Hour) // the end of the rollups is inside a step

	// The raw readings go, the peak stays.
	if err := errors.Join(r.raw.Close(), r.rolled.Close()); err != nil {
		t.Fatal(err)
	}
	r = roll(t, dir, 90*24*time.Hour, storage.RollupOptions{})
	if got := r.Until(); !got.Equal(until) {
		t.Fatalf("rolled up until %s after a restart, want %s", got, until)
	}
	if got := storagetest.Number(t, r.raw, `count(count_over_time(pi_soc_temperature_celsius[1d]))`, day(365)); !math.IsNaN(got) {
		t.Errorf("raw readings of a year ago are still there")
	}
	ask(day(730), now, 24*time.Hour)
	ask(day(300), day(200), bucket)
}

func TestHistoryRefusesWhatItCannotAnswer(t *testing.T) {
	r := roll(t, t.TempDir(), aYear, storage.RollupOptions{})
	now := time.Now()
	good := storage.HistoryQuery{Metric: "pi_load1", Start: now.Add(-time.Hour), End: now, Step: bucket}
	if spans, err := r.History(t.Context(), good); err != nil || len(spans) != 0 {
		t.Errorf("no readings: %v %v", spans, err)
	}
	for what, change := range map[string]func(*storage.HistoryQuery){
		"no metric is named": func(q *storage.HistoryQuery) { q.Metric = "" },
		"multiple of":        func(q *storage.HistoryQuery) { q.Step = 10 * time.Minute },
		"before its start":   func(q *storage.HistoryQuery) { q.Start, q.End = q.End, q.Start },
		"use longer steps":   func(q *storage.HistoryQuery) { q.Start = now.Add(-aYear) },
	} {
		q := good
		change(&q)
		if _, err := r.History(t.Context(), q); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%q: got %v", what, err)
		}
	}
	q := good
	q.Match = []storage.Label{{Name: "board", Value: `b"} or vector(1) #`}}
	if spans, err := r.History(t.Context(), q); err != nil || len(spans) != 0 {
		t.Errorf("a quoted value: %v %v", spans, err)
	}
}

// A collector that was away for weeks, or whose retention is new and shorter, rolls up its readings first.
func TestNothingExpiresBeforeItIsRolledUp(t *testing.T) {
	dir := t.TempDir()
	s := storagetest.Temperature("b1")
	var rows []storage.Row
	for at := day(200); at.Before(day(60)); at = at.Add(30 * time.Minute) {
		rows = append(rows, storage.Row{Series: s, At: at.UnixMilli(), Value: float64(at.Unix() / 1800 % 91)})
	}
	raw := storagetest.Open(t, dir+"/series", storage.Options{Retention: aYear})
	storagetest.Add(t, raw, rows)
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	rolled := storagetest.Open(t, dir+"/rollups", storage.Options{Retention: forever})
	want := 20 * 24 * time.Hour
	retention, err := storage.RetentionFor(t.Context(), dir+"/series", rolled, want)
	if err != nil || retention < 200*24*time.Hour || retention > 300*24*time.Hour {
		t.Fatalf("retention %s, %v", retention, err)
	}
	if err := rolled.Close(); err != nil {
		t.Fatal(err)
	}
	r := roll(t, dir, retention, storage.RollupOptions{})
	r.catchUp(t)
	compare(t, r.rolled, `pi_soc_temperature_celsius{board="b1"}`, rows, r.Until())
	if retention, err = storage.RetentionFor(t.Context(), dir+"/series", r.rolled, want); err != nil || retention != want {
		t.Errorf("retention %s, %v once it is rolled up; want %s", retention, err, want)
	}
}

// A new store has rows of this month alone, and nothing that is due. Its days before are not marked: the history that is put
// into it next would never be rolled up, and expire.
func TestAHistoryThatComesIntoANewStoreIsRolledUp(t *testing.T) {
	r := roll(t, t.TempDir(), aYear, storage.RollupOptions{})
	storagetest.Add(t, r.raw, []storage.Row{{Series: storagetest.Temperature("b2"), At: day(40).UnixMilli(), Value: storage.Stale}, {Series: storagetest.Temperature("b1"), At: time.Now().UnixMilli(), Value: 50}})
	r.catchUp(t)
	if until := r.Until(); !until.IsZero() {
		t.Errorf("rolled up until %s although nothing was", until)
	}
	rows := walk(storagetest.Temperature("b1"), day(300), day(10), 1)
	storagetest.Add(t, r.raw, rows)
	r.catchUp(t)
	if time.Since(r.Until()) > late+26*time.Hour {
		t.Errorf("rolled up until %s", r.Until())
	}
	compare(t, r.rolled, `pi_soc_temperature_celsius{board="b1"}`, rows, r.Until())
}

// The first reading of a store stands at the very begin of a month, which ends a bucket of the month before.
func TestAHistoryThatBeginsWithAMonthIsRolledUp(t *testing.T) {
	r := roll(t, t.TempDir(), aYear, storage.RollupOptions{})
	y, m, _ := day(100).UTC().Date()
	rows := walk(storagetest.Temperature("b1"), time.Date(y, m, 1, 0, 0, 0, 0, time.UTC), day(60), 1)
	storagetest.Add(t, r.raw, rows)
	r.catchUp(t)
	compare(t, r.rolled, `pi_soc_temperature_celsius{board="b1"}`, rows, r.Until())
}

// Readings that did expire are logged and counted, and the others are rolled up.
func TestExpiredReadingsAreCounted(t *testing.T) {
	// A mark that is 100 days old, and a retention that has not waited for it.
	dir := t.TempDir()
	r := roll(t, dir, aYear, storage.RollupOptions{})
	rows := walk(storagetest.Temperature("b1"), day(40), day(30), 1)
	storagetest.Add(t, r.rolled, []storage.Row{{Series: series("bramble_rollup_computed_timestamp_seconds"), At: day(100).UnixMilli(), Value: float64(time.Now().Unix())}})
	storagetest.Add(t, r.raw, rows)
	if err := errors.Join(r.raw.Close(), r.rolled.Close()); err != nil {
		t.Fatal(err)
	}
	r = roll(t, dir, 35*24*time.Hour, storage.RollupOptions{})
	r.catchUp(t)
	got := gather(t, r.registry)["bramble_rollup_expired_seconds_total"]
	if want := (65 * 24 * time.Hour).Seconds(); math.Abs(got-want) > 2*86400 {
		t.Errorf("%v s expired, want about %v", got, want)
	}
	left := bucketsOf(t, r.rolled, `pi_soc_temperature_celsius{board="b1"}`, "count", day(41), time.Now())
	if len(left) == 0 {
		t.Error("what had not expired is not rolled up")
	}
}

func TestRollingUpWaitsForWhatWasAccepted(t *testing.T) {
	refuse := errors.New("the store is full")
	settled := 0
	var err error
	r := roll(t, t.TempDir(), aYear, storage.RollupOptions{Settle: func(context.Context) error { settled++; return err }})
	storagetest.Add(t, r.raw, walk(storagetest.Temperature("b1"), day(14), day(13), 1))
	err = refuse
	if got := r.CatchUp(t.Context()); !errors.Is(got, refuse) || !r.Until().IsZero() {
		t.Errorf("got %v, rolled up until %s", got, r.Until())
	}
	err = nil
	r.catchUp(t)
	if settled < 3 || r.Until().IsZero() {
		t.Errorf("settled %d times, rolled up until %s", settled, r.Until())
	}
}

// A mark from a clock that was far ahead does not stop anything once the clock is right.
func TestAMarkFromTheFutureIsNotBelieved(t *testing.T) {
	dir := t.TempDir()
	r := roll(t, dir, aYear, storage.RollupOptions{})
	rows := walk(storagetest.Temperature("b1"), day(20), day(13), 1)
	storagetest.Add(t, r.raw, rows)
	future := float64(time.Now().Add(aYear).Unix())
	storagetest.Add(t, r.rolled, []storage.Row{{Series: series("bramble_rollup_computed_timestamp_seconds"), At: day(11).Add(time.Hour).UnixMilli(), Value: future}})
	if err := errors.Join(r.raw.Close(), r.rolled.Close()); err != nil {
		t.Fatal(err)
	}
	r = roll(t, dir, aYear, storage.RollupOptions{})
	if !r.Until().IsZero() {
		t.Fatalf("rolled up until %s", r.Until())
	}
	r.catchUp(t)
	compare(t, r.rolled, `pi_soc_temperature_celsius{board="b1"}`, rows, r.Until())
}

func TestAFullDiskStopsRollupsUntilThereIsRoom(t *testing.T) {
	dir := t.TempDir()
	rows := walk(storagetest.Temperature("b1"), day(14), day(12), 1)
	raw := storagetest.Open(t, dir+"/series", storage.Options{Retention: aYear})
	storagetest.Add(t, raw, rows)
	full := storagetest.Open(t, dir+"/rollups", storage.Options{Retention: forever, MinFreeBytes: math.MaxInt64})
	r, err := storage.NewRollups(t.Context(), storage.RollupOptions{Raw: raw, Rolled: full, Late: late})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.CatchUp(t.Context()); !errors.Is(err, storage.ErrReadOnly) || !r.Until().IsZero() {
		t.Errorf("got %v, rolled up until %s", err, r.Until())
	}
	if err := errors.Join(raw.Close(), full.Close()); err != nil {
		t.Fatal(err)
	}
	again := roll(t, dir, aYear, storage.RollupOptions{})
	again.catchUp(t)
	compare(t, again.rolled, `pi_soc_temperature_celsius{board="b1"}`, rows, again.Until())
}

func TestRollupsRefuseARetentionThatIsTooShort(t *testing.T) {
	raw, rolled := storagetest.Open(t, t.TempDir(), storage.Options{Retention: 9 * 24 * time.Hour}), storagetest.Open(t, t.TempDir(), storage.Options{})
	_, err := storage.NewRollups(t.Context(), storage.RollupOptions{Raw: raw, Rolled: rolled, Late: late})
	if err == nil || !strings.Contains(err.Error(), "240h0m0s") {
		t.Errorf("got %v", err)
	}
}

func TestStoppingEndsARun(t *testing.T) {
	r := roll(t, t.TempDir(), aYear, storage.RollupOptions{})
	storagetest.Add(t, r.raw, walk(storagetest.Temperature("b1"), day(300), day(1), 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(time.Time{}, r.Until()); diff != "" {
		t.Error(diff)
	}
}

// The difference of two series is that of readings of the same instant, rolled up or not.
func TestADifferenceIsThatOfOneInstant(t *testing.T) {
	r := roll(t, t.TempDir(), aYear, storage.RollupOptions{Differences: []storage.Difference{
		{Metric: "pi_cpu_clock_hertz", Label: "source", Of: "requested", Less: "measured", As: "pi_cpu_clock_lost_hertz"},
	}})
	clock := func(board, source string) storage.Series {
		return series("pi_cpu_clock_hertz", "board", board, "source", source)
	}
	// b1 changes its clock all day and loses 700 MHz for one reading, 20 days ago and again today; its maximum is never
	// part of it. b2 has no measured clock.
	then, today := day(20).Add(6*time.Hour), time.Now().Add(-time.Hour).Truncate(5*time.Minute)
	var rows []storage.Row
	for at := day(25); at.Before(time.Now()); at = at.Add(5 * time.Minute) {
		hertz := []float64{600e6, 1000e6, 1500e6}[at.Unix()/300%3]
		lost := 0.0
		if at.Equal(then) || at.Equal(today) {
			hertz, lost = 1500e6, 700e6
		}
		ms := at.UnixMilli()
		rows = append(rows, storage.Row{Series: clock("b1", "requested"), At: ms, Value: hertz}, storage.Row{Series: clock("b1", "measured"), At: ms, Value: hertz - lost},
			storage.Row{Series: clock("b1", "maximum"), At: ms, Value: 1800e6}, storage.Row{Series: clock("b1", "measured"), At: ms + 1000, Value: 1},
			storage.Row{Series: clock("b2", "requested"), At: ms, Value: hertz})
	}
	storagetest.Add(t, r.raw, rows)
	r.catchUp(t)
	ask := func(start, end time.Time) (most float64, count float64) {
		t.Helper()
		spans, err := r.History(t.Context(), storage.HistoryQuery{Metric: "pi_cpu_clock_lost_hertz", By: []string{"board", "source"}, Start: start, End: end, Step: 4 * bucket})
		if err != nil || len(spans) != 1 || len(spans[0].Labels) != 1 {
			t.Fatalf("%v %v", spans, err)
		}
		for _, c := range spans[0].Count {
			count += c
		}
		return slices.Max(spans[0].Max), count
	}
	if most, _ := ask(day(19), day(2)); most != 0 {
		t.Errorf("%v lost while nothing was", most)
	}
	for _, at := range []time.Time{then, today} {
		if most, count := ask(at.Add(-3*time.Hour).Truncate(time.Hour), at.Add(time.Minute).Truncate(time.Hour).Add(time.Hour-time.Second)); most != 700e6 || count < 36 || count > 48 {
			t.Errorf("%v lost at %s in %v readings, want 700e6", most, at, count)
		}
	}
	if got := storagetest.Number(t, r.rolled, `count(last_over_time(pi_cpu_clock_lost_hertz:15m_max{board="b1",source=""}[30d]))`, time.Now()); got != 1 {
		t.Errorf("%v series", got)
	}
}
