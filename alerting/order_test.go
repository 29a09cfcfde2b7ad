package alerting

import (
	"fmt"
	"testing"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/dispatch"
)

// TestOrderOfUpdates: of an end and a beginning that come at once, in either order, the later one is what stands in the
// groups of Alertmanager's dispatcher, which reads updates with several goroutines.
func TestOrderOfUpdates(t *testing.T) {
	for _, ends := range []bool{false, true} {
		t.Run(fmt.Sprintf("ends %t", ends), func(t *testing.T) {
			s := newSink(t, nil)
			p := startPager(t, openDB(t, t.TempDir()), oneSink(s.URL, ""), nil)
			const boards, times = 20, 20
			t0 := time.Now()
			var last []Transition
			for i := range boards {
				last = append(last, fire(fmt.Sprintf("b%d", i), t0))
			}
			p.Deliver(last)
			for range last {
				s.next(t)
			}
			put := func(tr Transition) {
				p.Deliver([]Transition{tr})
				p.takeIn()
			}
			for i := range times {
				at := t0.Add(time.Duration(i+1) * time.Millisecond)
				for b, f := range last {
					put(resolve(f, at))
					f.FiredAt, f.At = at.UnixMilli(), at.UnixMilli()
					put(f)
					if last[b] = f; ends && i == times-1 {
						put(resolve(f, at.Add(time.Millisecond)))
					}
				}
			}
			want := boards
			if ends {
				want = 0
			}
			late := time.After(15 * time.Second) // an end whose beginning is to be paged again waits for that
			for got := p.firingInGroups(t, last); got != want; got = p.firingInGroups(t, last) {
				select {
				case <-late:
					t.Fatalf("%d of %d boards fire", got, boards)
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
}

// firingInGroups counts the alerts that fire in the dispatcher's groups, once it has taken all of them in.
func (p *testPager) firingInGroups(t *testing.T, ts []Transition) (n int) {
	t.Helper()
	var alerts []*amalert.Alert
	for _, tr := range ts {
		alerts = append(alerts, tr.alert())
	}
	p.inbox.take.Lock()
	p.inOrder(alerts)
	p.inbox.take.Unlock()
	_, _, err := p.groups(t.Context(), func(*dispatch.Route) bool { return true }, func(a *amalert.Alert, now time.Time) bool {
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
