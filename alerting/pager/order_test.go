package pager

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/dispatch"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
)

// TestOrderOfUpdates: of an end and a beginning that come at once, in either order, the later one is what stands in the
// groups of Alertmanager's dispatcher, which reads updates with several goroutines.
func TestOrderOfUpdates(t *testing.T) {
	f := func(name string, ends, posted bool) {
		t.Run(name, func(t *testing.T) {
			s := newSink(t, nil)
			p := startPager(t, openDB(t, t.TempDir()), oneSink(s.URL, ""), nil)
			<-p.Running()
			const boards, times = 20, 20
			t0 := time.Now()
			var last []alert.Transition
			for i := range boards {
				last = append(last, alerttest.Fire(fmt.Sprintf("b%d", i), t0))
			}
			put := func(tr alert.Transition) {
				if posted {
					p.post(t, tr)
					return
				}
				p.Deliver([]alert.Transition{tr})
				p.takeIn()
			}
			for _, tr := range last {
				put(tr)
			}
			for range last {
				s.next(t)
			}
			for i := range times {
				at := t0.Add(time.Duration(i+1) * time.Millisecond)
				for b, f := range last {
					put(alerttest.Resolve(f, at))
					f.FiredAt, f.At = at.UnixMilli(), at.UnixMilli()
					put(f)
					if last[b] = f; ends && i == times-1 {
						put(alerttest.Resolve(f, at.Add(time.Millisecond)))
					}
				}
			}
			want := boards
			if ends {
				want = 0
			}
			late := time.After(patience) // an end whose beginning is to be paged again waits for that
			for got := p.firingInGroups(t, last); got != want; got = p.firingInGroups(t, last) {
				select {
				case <-late:
					t.Fatalf("%d of %d boards fire", got, boards)
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	f("begins", false, false)
	f("ends", true, false)
	f("begins, posted", false, true)
	f("ends, posted", true, true)
}

// post gives the API an alert as another program does.
func (p *testPager) post(t *testing.T, tr alert.Transition) {
	t.Helper()
	a := amAlert(tr)
	if a.EndsAt.IsZero() {
		a.EndsAt = time.Now().Add(time.Hour)
	}
	body, err := json.Marshal([]any{map[string]any{"labels": a.Labels, "startsAt": a.StartsAt, "endsAt": a.EndsAt}})
	if err != nil {
		t.Fatal(err)
	}
	rec, req := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/api/v2/alerts", bytes.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	p.Handler().ServeHTTP(rec, req)
	if rec.Code != http.StatusOK {
		t.Fatalf("post alert: %d %s", rec.Code, rec.Body)
	}
}

// firingInGroups counts the alerts that fire in the dispatcher's groups, once it has taken all of them in.
func (p *testPager) firingInGroups(t *testing.T, ts []alert.Transition) (n int) {
	t.Helper()
	var alerts []*amalert.Alert
	for _, tr := range ts {
		alerts = append(alerts, amAlert(tr))
	}
	p.am.feedMu.Lock()
	p.am.inOrder(alerts)
	p.am.feedMu.Unlock()
	_, _, err := p.am.groups(t.Context(), func(*dispatch.Route) bool { return true }, func(a *amalert.Alert, now time.Time) bool {
		if !a.ResolvedAt(now) {
			n++
		}
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
