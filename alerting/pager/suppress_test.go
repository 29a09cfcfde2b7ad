package pager

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/alertmanager/silence/silencepb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/incident"
	"bramble/alerting/maintenance"
)

// One alert is held by a maintenance, a silence, an inhibition and the alert of its switch at a time: the answer names all of them in
// their order, with authors and ends, and the pipeline, the list and the domains agree with it.
func TestAllThatSuppressesAnAlert(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	p := startPager(t, openDB(t, t.TempDir()), oneSink(s.URL, `inhibit_rules: [{source_matchers: [alertname="PowerLost"], target_matchers: [board="b1"]}]`), nil)
	hot := alerttest.Fire("b1", time.Now())
	labels := alert.LabelSet(hot.Labels)
	if found := p.suppress.of(labels); len(found) > 0 {
		t.Errorf("suppressed by %+v before anything is", found)
	}
	m, err := p.Maintenances().Start(t.Context(), maintenance.Request{Matchers: []string{`board="b1"`}, For: time.Hour, By: "mira"})
	if err != nil {
		t.Fatal(err)
	}
	one := &silencepb.Silence{
		StartsAt: timestamppb.Now(), EndsAt: timestamppb.New(time.Now().Add(2 * time.Hour)), CreatedBy: "jonas",
		MatcherSets: []*silencepb.MatcherSet{{Matchers: []*silencepb.Matcher{{Name: "board", Pattern: "b1"}}}},
	}
	if err := p.am.silences.Set(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	power := alerttest.Fire("psu", time.Now())
	power.Rule, power.Labels["alertname"] = "power", "PowerLost"
	delete(power.Labels, "board")
	domain := hot
	domain.Rule, domain.Series, domain.Boards = alert.DomainRule(hot.Rule), `rack="r1"`, []string{"b1", "b2"}
	domain.Labels = map[string]string{"alertname": "SocHot", "domain": "rack", "rack": hot.Labels["rack"], "severity": "critical"}
	domain.Annotations = map[string]string{"summary": "Rack r1: 2 of 2 boards hot"}
	p.Deliver([]alert.Transition{power, domain, hot})
	p.until(t, "power", func(in incident.Incident) bool { return in.Alerts[0].Labels["alertname"] == "PowerLost" })
	by := map[string]alert.Suppression{}
	var order []string
	for _, one := range p.suppress.of(labels) {
		by[one.Kind] = one
		order = append(order, one.Kind)
	}
	want := []string{alert.ByMaintenance, alert.BySilence, alert.ByRepresentative, alert.ByInhibition}
	if d := cmp.Diff(want, order); d != "" {
		t.Errorf("suppressed by (-want +got):\n%s", d)
	}
	if one := by[alert.ByMaintenance]; one.By != "mira" || one.ID != "1" || one.Until != m.ReturnBy {
		t.Errorf("%+v, want maintenance 1 of mira until %d", one, m.ReturnBy)
	}
	if found := by[alert.BySilence]; found.By != "jonas" || found.ID != one.Id || found.Until != one.EndsAt.AsTime().UnixMilli() {
		t.Errorf("%+v, want the silence of jonas", found)
	}
	if one := by[alert.ByRepresentative]; one.By != "Rack r1: 2 of 2 boards hot" || one.ID != alert.LabelSet(domain.Labels).Fingerprint().String() {
		t.Errorf("%+v, want the rack's alert", one)
	}
	if one := by[alert.ByInhibition]; one.By != alert.Text(power.Labels, power.Annotations) || one.ID != alert.LabelSet(power.Labels).Fingerprint().String() {
		t.Errorf("%+v, want the alert of the power", one)
	}
	if all, n := p.Suppressed(); n < 1 || !slices.ContainsFunc(all, func(s alert.Suppressed) bool { return s.Labels["board"] == "b1" && len(s.Suppressions) == 4 }) {
		t.Errorf("%d suppressed alerts: %+v", n, all)
	}
	kept := []alert.Transition{hot}
	if _, out, _ := (suppressStage{p.suppress}).Exec(context.Background(), nil, amAlert(kept[0])); len(out) > 0 {
		t.Error("the pipeline lets it page")
	}
	two := &silencepb.Silence{
		StartsAt: timestamppb.Now(), EndsAt: timestamppb.New(time.Now().Add(time.Hour)), CreatedBy: "ada",
		MatcherSets: []*silencepb.MatcherSet{{Matchers: []*silencepb.Matcher{{Name: "board", Pattern: "b1"}}}},
	}
	if err := p.am.silences.Set(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, `/api/v2/alerts?filter=board%3D%22b1%22`, nil))
	var shown []struct {
		Status struct{ SilencedBy, InhibitedBy []string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &shown); err != nil || len(shown) != 1 {
		t.Fatalf("%d alerts, %v: %s", len(shown), err, w.Body)
	}
	silenced, inhibited := shown[0].Status.SilencedBy, shown[0].Status.InhibitedBy
	for _, id := range []string{one.Id, two.Id} {
		if !slices.Contains(silenced, id) {
			t.Errorf("the API names the silences %v, and not %s", silenced, id)
		}
	}
	for _, id := range []string{"maintenance 1", alert.LabelSet(domain.Labels).Fingerprint().String(), alert.LabelSet(power.Labels).Fingerprint().String()} {
		if !slices.Contains(inhibited, id) {
			t.Errorf("the API names the inhibitions %v, and not %s", inhibited, id)
		}
	}
	if !p.Silenced(&hot) {
		t.Error("the domains' decider counts it as one that nobody works on")
	}
}

var kindInTable = regexp.MustCompile("(?m)^\\| \\d+ \\| `(\\w+)` \\|")

// The table of the precedence in the docs is the order in which the code asks.
func TestPrecedenceIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/alerting.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented, asked []string
	for _, m := range kindInTable.FindAllSubmatch(text, -1) {
		documented = append(documented, string(m[1]))
	}
	for _, r := range precedence {
		asked = append(asked, r.kind)
	}
	if d := cmp.Diff(asked, documented); d != "" {
		t.Errorf("docs/alerting.md (-code +docs):\n%s", d)
	}
}

// An incident whose alert fires by keep_firing_for alone says since when its condition is over, and says it no longer once that holds
// again.
func TestAnIncidentSaysThatItsConditionIsOver(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	p := startPager(t, openDB(t, t.TempDir()), oneSink(s.URL, ""), nil)
	hot := alerttest.Fire("b1", time.Now())
	for i, state := range []alert.State{alert.Firing, alert.Cooling, alert.Firing} {
		if i > 0 {
			hot.From, hot.State, hot.At = hot.State, state, hot.At+1000
		}
		p.Deliver([]alert.Transition{hot})
		want := ""
		if state == alert.Cooling {
			want = "condition over since " + time.UnixMilli(hot.At).UTC().Format("15:04:05 UTC")
		}
		waitFor(t, p.Pager, func(in incident.Incident) bool { return in.Now == want && pageState("delivered")(in) })
	}
}
