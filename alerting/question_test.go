package alerting

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/storage"
	"bramble/storage/series"
)

// countedStore writes down what it is asked.
type countedStore struct {
	*storage.Store
	asked []string
}

func (c *countedStore) Query(ctx context.Context, expr string, at time.Time) ([]series.Result, error) {
	c.asked = append(c.asked, expr)
	return c.Store.Query(ctx, expr, at)
}

// TestQuestions: what rules have in common is asked once, and each decides as if it had asked alone.
func TestQuestions(t *testing.T) {
	store := openSeries(t)
	at := time.Now().Truncate(time.Minute)
	var rows []storage.Row
	for i := range 10 {
		for _, m := range []string{"m", "n"} {
			s := storage.SeriesOf(labels(m, fmt.Sprint("b", i)))
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
			ts, err := NewEngine(mustRules(t, list.String())).Evaluate(t.Context(), counted, at)
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

// TestQuestionsAfterRecording: what a group records is seen by the rules behind it, though one before it asked the same.
func TestQuestionsAfterRecording(t *testing.T) {
	store := openSeries(t)
	e := NewEngine(mustRules(t, `
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
