package ruletest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/rules"
	"bramble/storage"
	"bramble/storage/series"
)

// countedStore records its queries.
type countedStore struct {
	*storage.Store
	asked []string
}

func (c *countedStore) Query(ctx context.Context, expr string, at time.Time) ([]series.Result, error) {
	c.asked = append(c.asked, expr)
	return c.Store.Query(ctx, expr, at)
}

// TestQuestions wants one query for rules that share it, and the same decisions as from a query each.
func TestQuestions(t *testing.T) {
	store := openSeriesStore(t)
	at := time.Now().Truncate(time.Minute)
	var rows []storage.Row
	for i := range 10 {
		for _, m := range []string{"m", "n"} {
			s := storage.SeriesOf(boardLabels(m, fmt.Sprint("b", i)))
			rows = append(rows, storage.Row{Series: s, At: at.Add(-time.Minute).UnixMilli(), Value: float64(i)}, storage.Row{Series: s, At: at.UnixMilli(), Value: float64(i)})
		}
	}
	if err := store.Add(rows); err != nil {
		t.Fatal(err)
	}
	f := func(queries int, exprs ...string) {
		t.Helper()
		var all, alone []string
		evaluate := func(counted *countedStore, into []string, exprs ...string) []string {
			var list strings.Builder
			for _, x := range exprs {
				fmt.Fprintf(&list, "  - {alert: A, expr: '%s', labels: {x: '%s'}}\n", x, x)
			}
			ts, err := rules.NewEngine(loadRules(t, list.String())).Evaluate(t.Context(), counted, at)
			if err != nil {
				t.Fatal(err)
			}
			for _, tr := range ts {
				into = append(into, fmt.Sprintf("%s %s %v", tr.Labels["x"], tr.Labels["board"], tr.Value))
			}
			return into
		}
		together := &countedStore{Store: store}
		all = evaluate(together, all, exprs...)
		for _, x := range exprs {
			alone = evaluate(&countedStore{Store: store}, alone, x)
		}
		if !slices.Equal(all, alone) {
			t.Errorf("%q: together %q, alone %q", exprs, all, alone)
		}
		if len(together.asked) != queries {
			t.Errorf("%q: asked %q, want %d queries", exprs, together.asked, queries)
		}
	}
	f(1, "avg_over_time(m[5m]) > 5", "avg_over_time(m[5m]) > 8", "avg_over_time(m[5m]) > 99")
	f(1, "avg_over_time(m[5m]) <= 2", "avg_over_time(m[5m]) <= -1")
	f(2, "avg_over_time(m[5m]) < 2", "avg_over_time(m[5m]) > 7")
	f(2, "avg_over_time(m[5m]) == 2", "avg_over_time(m[5m]) == 3")
	f(2, "avg_over_time(m[5m]) > 5", "avg_over_time(n[5m]) > 5")
	f(1, "m - 2 * n > -6", "m - 2 * n > -3", "(m - 2 * n) > -4")
	f(1, "(m or n) offset 1m > 3", "(m or n) offset 1m > 5")
	f(1, "m > bool 5", "m > bool 5")
	f(1, "m > n and n > 20", "m >= n and n > 30")
	f(2, "m >= n and n > 7")
	f(3, "m >= n and n > 7", "m < n and n > 8")
	f(1, "avg_over_time(m[5m]) > 20 and n offset 1m")
	f(1, "m > 7 and n offset 1m unless m > 8")
}

// TestQuestionsAfterRecording wants a rule to see the series that the group recorded before it, though an earlier rule asked the
// same query.
func TestQuestionsAfterRecording(t *testing.T) {
	store := openSeriesStore(t)
	e := rules.NewEngine(loadRules(t, `
  - {alert: Before, expr: 'max(r) > 0'}
  - {record: r, expr: '1 + vector(0)'}
  - {alert: After, expr: 'max(r) > 0'}
`))
	e.RecordTo(store)
	ts, err := e.Evaluate(t.Context(), store, time.Now())
	if err != nil || len(ts) != 1 || ts[0].Labels[alert.NameLabel] != "After" {
		t.Errorf("got %+v, %v", ts, err)
	}
}

// slowRules are rules that one reading cannot decide: windows, counters, series that are compared. %[1]d makes them differ.
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
	store := openSeriesStore(b)
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
				benchmarkEvaluate(b, store, rules.NewEngine(loadRules(b, list.String()+hits)), end.Add(-time.Minute))
			})
		}
	}
}

func benchmarkEvaluate(b *testing.B, store *storage.Store, e *rules.Engine, at time.Time) {
	if _, err := e.Evaluate(b.Context(), store, at); err != nil {
		b.Fatal(err)
	}
	before, other := cpuTime(b), at.Add(-time.Minute)
	for b.Loop() {
		at, other = other, at // each is another step of every group
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
			names[i][m] = storage.SeriesOf(boardLabels(fmt.Sprint("m", m), fmt.Sprintf("r%d-%d", i/48, i), "rack", fmt.Sprint("r", i/48), "model", "4B"))
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

func openSeriesStore(t testing.TB) *storage.Store {
	t.Helper()
	s, err := storage.Open(t.TempDir(), storage.Options{Retention: 40 * 24 * time.Hour, MemoryBytes: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// loadRules loads a group of rules from their list.
func loadRules(t testing.TB, list string) *rules.Rules {
	t.Helper()
	loaded, err := rules.Load(map[string][]byte{"r.yml": []byte("groups:\n- name: g\n  interval: 10s\n  rules:\n" + list)})
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

func boardLabels(name, board string, more ...string) []series.Label {
	out := []series.Label{{Name: series.NameLabel, Value: name}, {Name: alert.BoardLabel, Value: board}}
	for i := 0; i < len(more); i += 2 {
		out = append(out, series.Label{Name: more[i], Value: more[i+1]})
	}
	return out
}
