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
	"bramble/alerting/escalation"
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
		return cmp.Compare(strings.Count(a.Alerts[0].Labels["alertname"], escalation.BundleAlert), strings.Count(b.Alerts[0].Labels["alertname"], escalation.BundleAlert))
	})
	first, third := got[0], got[2]
	t.Logf("first after %s, bundle after %s", first.at.Sub(began), third.at.Sub(began))
	if len(third.Alerts) != 1 || third.Alerts[0].Annotations["summary"] != "498 messages in one: 498 firing" {
		t.Fatalf("third message %+v", third.Alerts)
	}
	lines := strings.Split(third.Alerts[0].Annotations["description"], "\n")
	if len(lines) != 26 || !strings.HasPrefix(lines[25], "and 473 more: http://collector.example/incidents") {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
	if third.at.Sub(began) >= time.Minute {
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
