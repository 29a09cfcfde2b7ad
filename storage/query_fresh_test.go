package storage

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
)

// A series is seen by the query that follows it, also where the engine has put it into its index in the background: the
// same query before has made it remember which series there were.
func TestANewSeriesIsSeenAtOnce(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	at := time.Now().Add(-time.Minute)
	add := func(board string) {
		t.Helper()
		series := SeriesOf([]Label{{Name: "__name__", Value: "pi_load1"}, {Name: "board", Value: board}})
		if err := s.Add([]Row{{Series: series, At: at.UnixMilli(), Value: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	see := func(want int) {
		t.Helper()
		found, err := s.Query(t.Context(), "pi_load1", time.Now())
		if err != nil || len(found) != want {
			t.Errorf("a query sees %d series, want %d; %v", len(found), want, err)
		}
		scanned := 0
		err = s.scan(t.Context(), "pi_load1", nil, between(at.Add(-time.Hour), time.Now()), func(*vm.MetricName, []int64, []float64) error { scanned++; return nil })
		if err != nil || scanned != want {
			t.Errorf("a scan sees %d series, want %d; %v", scanned, want, err)
		}
	}
	see(0)
	for n, board := range []string{"b1", "b2"} {
		add(board)
		tick := time.NewTicker(10 * time.Millisecond)
		for s.indexPending() > 0 { // a second, without a query
			<-tick.C
		}
		tick.Stop()
		see(n + 1)
		see(n + 1)
	}
}

func (s *Store) indexPending() uint64 {
	var m vm.Metrics
	s.db.UpdateMetrics(&m)
	return m.TableMetrics.IndexDBMetrics.PendingItems
}

// The step that has begun and not ended shows its own values, not those of the one before it.
func TestTheNewestStepShowsItsOwnReading(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	now := time.Now()
	series := SeriesOf([]Label{{Name: "__name__", Value: "pi_load1"}})
	if err := s.Add([]Row{{Series: series, At: now.Add(-60 * time.Second).UnixMilli(), Value: 50}, {Series: series, At: now.UnixMilli(), Value: 60}}); err != nil {
		t.Fatal(err)
	}
	end := float64(now.Add(25*time.Second).UnixMilli()) / 1000
	question := fmt.Sprintf("/api/v1/query_range?query=max_over_time(pi_load1[50s])&step=50s&nocache=1&start=%.3f&end=%.3f", end-50, end)
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, question, nil))
	if got := w.Body.String(); !strings.Contains(got, `,"50"]`) || !strings.Contains(got, `,"60"]`) {
		t.Errorf("the steps hold %s, want 50 and then 60", got)
	}
}
