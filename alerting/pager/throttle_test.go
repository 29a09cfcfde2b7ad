package pager

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/incident"
)

const oneAda = `
people: [{name: ada, channels: [{receiver: ada-ntfy}]}]
policies: [{name: default, receivers: [oncall], steps: [{notify: [ada], wait: 1h}]}]
`

// startOnCall is startPager with an oncall.yml.
func startOnCall(t testing.TB, config []byte, onCall string) *testPager {
	t.Helper()
	return startPager(t, openDB(t, t.TempDir()), []byte("route: {receiver: none}\nreceivers: [{name: none}]\n"), func(p *Pager) {
		if err := p.ReloadWithOnCall(config, []byte(onCall)); err != nil {
			t.Fatal(err)
		}
	})
}

// TestThrottle: 500 boards that each page alone, whatever the routes, are three messages in the first minute; the third
// counts and lists what the others do not say, and each incident says so.
func TestThrottle(t *testing.T) {
	s := newSink(t, nil)
	p := startOnCall(t, channelsTo(s.URL, "ada-ntfy"), oneAda)
	began := time.Now()
	var ts []alert.Transition
	for i := range 500 {
		ts = append(ts, alerttest.Fire(fmt.Sprintf("b%03d", i), began))
	}
	p.Deliver(ts)
	got := []hook{s.next(t), s.next(t), s.next(t)}
	slices.SortStableFunc(got, func(a, b hook) int { // on a busy machine one that left before may come after it
		return cmp.Compare(strings.Count(a.Alerts[0].Labels["alertname"], BundleAlert), strings.Count(b.Alerts[0].Labels["alertname"], BundleAlert))
	})
	first, third := got[0], got[2]
	t.Logf("first after %s, bundle after %s", first.at.Sub(began), third.at.Sub(began))
	if len(third.Alerts) != 1 || third.Alerts[0].Annotations["summary"] != "498 messages in one: 498 firing" {
		t.Fatalf("third message %+v", third.Alerts)
	}
	lines := strings.Split(third.Alerts[0].Annotations["description"], "\n")
	if len(lines) != bundleLines+1 || !strings.HasPrefix(lines[bundleLines], "and 473 more: http://collector.example/incidents") {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
	if third.at.Sub(began) >= throttleWindow {
		t.Errorf("the bundle came after %s", third.at.Sub(began))
	}
	delivered := map[string]bool{}
	p.until(t, "all delivered", func(in incident.Incident) bool {
		if len(in.Pages) == 1 && in.Pages[0].State == "delivered" {
			delivered[in.ID] = true
		}
		return len(delivered) == 500
	})
	s.none(t, "within the first minute")
	for _, in := range mustIncidents(t, p.Pager) {
		if pg := in.Pages[0]; pg.Person != "ada" || pg.Bundle != "" && pg.Bundle != third.id {
			t.Fatalf("page %+v", pg)
		}
	}
}

func mustIncidents(t testing.TB, p *Pager) []incident.Incident {
	t.Helper()
	all, err := p.Incidents(t.Context(), incident.Query{Limit: 1000})
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	return all
}

// TestBundleAcknowledged: what was put off and is acknowledged before it leaves is not told any more.
func TestBundleAcknowledged(t *testing.T) {
	b := newBench(t, oneAda)
	var ids []string
	for i := range 4 {
		ids = append(ids, b.notify(1, fmt.Sprintf("b%d", i), true))
		b.deliver()
	}
	b.want(b.until(900*time.Millisecond), strings.Join([]string{"0s ada-ntfy", "0s ada-ntfy", never(b) + " ada-ntfy bundled", never(b) + " ada-ntfy bundled"}, ", "))
	b.tx(func(e *transaction) error { return e.acknowledge(ids[2], incident.Ack{By: "ada", At: e.now}) })
	b.want(b.until(10*time.Second), strings.Join([]string{"0s ada-ntfy", "0s ada-ntfy", never(b) + " ada-ntfy stopped", "1s ada-ntfy"}, ", "))
}

// TestABundleWaitsForMore: a third page within a minute leaves a second later; each that comes meanwhile begins the second
// anew, three in all.
func TestABundleWaitsForMore(t *testing.T) {
	f := func(more int, leaves string) {
		t.Helper()
		b := newBench(t, oneAda)
		for i := range 3 + more {
			if i > 2 {
				b.until(time.Duration(i-2) * 700 * time.Millisecond)
			}
			b.notify(1, fmt.Sprintf("b%d", i), true)
			b.deliver()
		}
		b.want(b.until(10*time.Second), "0s ada-ntfy, 0s ada-ntfy, "+leaves+" ada-ntfy")
	}
	f(0, "1s")
	f(1, "1.7s")
	f(4, "3s")
}

// never is how a page that was not sent looks.
func never(b *bench) string { return (time.Duration(-b.zero) * time.Millisecond).String() }
