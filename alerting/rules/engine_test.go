package rules

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting/alert"
	"bramble/storage/series"
)

func labels(name, board string, more ...string) []series.Label {
	out := []series.Label{{Name: "__name__", Value: name}, {Name: "board", Value: board}}
	for i := 0; i < len(more); i += 2 {
		out = append(out, series.Label{Name: more[i], Value: more[i+1]})
	}
	return out
}

const minute = int64(60_000)

// states feeds values one minute apart, NaN for "no reading", and returns "m:state" for each transition.
func states(t *testing.T, rules string, values ...float64) string {
	t.Helper()
	e := NewEngine(mustRules(t, rules))
	s := e.Series(labels("a", "b1"), nil)
	var out []string
	for i, v := range values {
		if math.IsNaN(v) {
			continue
		}
		at := int64(i+1) * minute
		for _, tr := range e.Observe("b1", at, []Reading{{s, v}}) {
			out = append(out, fmt.Sprintf("%d:%s", i, tr.State))
		}
	}
	return strings.Join(out, " ")
}

func TestStateMachine(t *testing.T) {
	f := func(rule, want string, values ...float64) {
		t.Helper()
		if got := states(t, "  - {alert: A, expr: a > 5"+rule+"}\n", values...); got != want {
			t.Errorf("%s %v: got %s, want %s", rule, values, got, want)
		}
	}
	gone := math.NaN()
	f("", "1:firing 3:inactive", 1, 6, 7, 1, 1)
	f("", "0:firing", 6, gone, gone, gone)
	f(", for: 2m", "1:pending 3:firing 4:inactive", 1, 6, 6, 6, 1)
	f(", for: 2m", "0:pending 1:inactive 2:pending", 6, 1, 6)
	f(", for: 2m", "0:pending 9:firing", 6, gone, gone, gone, gone, gone, gone, gone, gone, 6)
	f(", keep_firing_for: 2m", "0:firing 1:cooling 3:inactive", 6, 1, 1, 1)
	f(", keep_firing_for: 2m", "0:firing 1:cooling 2:firing 3:cooling", 6, 1, 6, 1)
}

// TestTwoReadingsInARow: the default SocHot fires by the second reading in a row at or above its line, however much time lies
// between the two, also across a restart; a throttle bit by its first one, and so does a rule of a user without a `for`.
func TestTwoReadingsInARow(t *testing.T) {
	const hot, bit = "pi_soc_temperature_celsius", "pi_throttled"
	f := func(rules *Rules, metric string, restart bool, apart int64, want string, values ...float64) {
		t.Helper()
		e := NewEngine(rules)
		var got []string
		for i, v := range values {
			s := e.Series(labels(metric, "b1", "reason", "throttled"), nil)
			for _, tr := range e.Observe("b1", 1000+int64(i)*apart, []Reading{{s, v}}) {
				got = append(got, fmt.Sprintf("%d:%s %s", i, tr.Labels["alertname"], tr.State))
			}
			if !restart {
				continue
			}
			state, err := e.Checkpoint()
			if err != nil {
				t.Fatal(err)
			}
			e = NewEngine(rules)
			if err := e.Restore(state); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%v, %d ms apart: got %v, want %s", values, apart, got, want)
		}
	}
	for _, apart := range []int64{1, 250, 999, 1000, 10_000, 3_600_000} {
		for _, restart := range []bool{false, true} {
			f(Default(), hot, restart, apart, "0:SocHot pending, 1:SocHot firing", 80, 80)
			f(Default(), hot, restart, apart, "1:SocHot pending, 2:SocHot inactive", 45, 85, 45, 45)
			f(Default(), hot, restart, apart, "0:SocHot pending, 1:SocHot inactive, 2:SocHot pending, 3:SocHot inactive", 85, 45, 85, 45)
			f(Default(), bit, restart, apart, "1:Throttled firing", 0, 1)
		}
	}
	f(mustRules(t, "  - {alert: Mine, expr: pi_soc_temperature_celsius >= 80}\n"), hot, false, 1000, "1:Mine firing", 45, 85)
	f(mustRules(t, "  - {alert: Mine, expr: pi_soc_temperature_celsius >= 80, for: 0s}\n"), hot, false, 1000, "1:Mine firing", 45, 85)
	f(mustRules(t, "  - {alert: Mine, expr: pi_soc_temperature_celsius >= 80, for: 1s}\n"), hot, false, 999, "0:Mine pending, 2:Mine firing", 85, 85, 85)
}

func TestWatermark(t *testing.T) {
	e := NewEngine(mustRules(t, "  - {alert: A, expr: a > 5}\n"))
	s := e.Series(labels("a", "b1"), nil)
	if got := e.Observe("b1", 100, []Reading{{s, 6}}); len(got) != 1 {
		t.Fatalf("got %v", got)
	}
	for _, at := range []int64{100, 99} {
		if got := e.Observe("b1", at, []Reading{{s, 1}}); got != nil {
			t.Errorf("late reading at %d decided: %v", at, got)
		}
	}
	if got := e.Observe("b2", 50, []Reading{{e.Series(labels("a", "b2"), nil), 6}}); len(got) != 1 {
		t.Errorf("another origin has a watermark of its own: %v", got)
	}
}

func TestTransitionContents(t *testing.T) {
	e := NewEngine(mustRules(t, "  - {alert: A, expr: 'a{rack=\"r1\"} > 5', labels: {severity: '{{ $labels.rack }}'}, annotations: {s: '{{ $labels.board }} {{ $value }}'}}\n"))
	own := labels("a", "b1", "rack", "forged")
	s := e.Series(own, []series.Label{{Name: "rack", Value: "r1"}})
	got := e.Observe("b1", 100, []Reading{{s, 6}})
	want := []alert.Transition{{
		Rule: `g/A{severity="{{ $labels.rack }}"}`, Series: `board="b1",rack="forged"`, From: alert.Inactive, State: alert.Firing, At: 100, Since: 100, FiredAt: 100, Value: 6,
		Labels:      map[string]string{"alertname": "A", "board": "b1", "rack": "r1", "severity": "r1"},
		Annotations: map[string]string{"s": "b1 6"},
	}}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(alert.Transition{}, "Received")); d != "" {
		t.Error(d)
	}
	if age := time.Now().UnixMilli() - got[0].Received; age < 0 || age > 10_000 {
		t.Errorf("received %d ms ago", age)
	}
	// Relabelled while it fires: the labels of the alert stay, so that its end matches its start.
	s = e.Series(own, []series.Label{{Name: "rack", Value: "r2"}})
	if got := e.Observe("b1", 200, []Reading{{s, 1}}); len(got) != 0 {
		t.Errorf("a series that the rule no longer selects changed it: %v", got)
	}
}

func TestSeveralSeries(t *testing.T) {
	type step struct {
		minute     int64
		a, b       float64 // NaN: no reading
		transition string
	}
	gone := math.NaN()
	f := func(expr string, steps ...step) {
		t.Helper()
		e := NewEngine(mustRules(t, "  - {alert: A, expr: '"+expr+"'}\n"))
		a, b := e.Series(labels("a", "b1"), nil), e.Series(labels("b", "b1", "reason", "x"), nil)
		other := e.Series(labels("b", "b2", "reason", "x"), nil)
		for _, s := range steps {
			e.Observe("b2", s.minute*minute, []Reading{{other, 9}})
			var rs []Reading
			if !math.IsNaN(s.a) {
				rs = append(rs, Reading{a, s.a})
			}
			if !math.IsNaN(s.b) {
				rs = append(rs, Reading{b, s.b})
			}
			var got []string
			for _, tr := range e.Observe("b1", s.minute*minute, rs) {
				got = append(got, tr.State.String()+"@"+tr.Labels["reason"])
			}
			if strings.Join(got, " ") != s.transition {
				t.Errorf("%s minute %d: got %q, want %q", expr, s.minute, got, s.transition)
			}
		}
	}
	f("a > 5 and on(board) b > 5", step{1, 6, gone, ""}, step{2, gone, 6, "firing@"}, step{3, gone, 1, "inactive@"})
	f("a > 5 and on(board) b > 5", step{1, gone, 6, ""}, step{7, 6, gone, ""}, step{8, 6, 6, "firing@"}) // b was stale
	f("a > 5 and on(board) b > 5", step{1, 6, 6, "firing@"}, step{9, 6, gone, ""}, step{10, 1, gone, "inactive@"})
	f("a > 5 and b > 5", step{1, 6, 6, ""}) // their labels differ
	f("a > 5 and ignoring(reason) b > 5", step{1, 6, 6, "firing@"})
	f("a > 5 or on(board) b > 5", step{1, 1, 6, "firing@x"}, step{2, 6, 6, "firing@ inactive@x"})
}

// TestReplay cuts a random run anywhere: a checkpoint, then the records that the journal would hold, must lead to the same
// transitions as no cut.
func TestReplay(t *testing.T) {
	t.Parallel()
	rules := mustRules(t, `
  - {alert: Plain, expr: a > 5}
  - {alert: For, expr: a > 5, for: 3m}
  - {alert: Keep, expr: a > 5, keep_firing_for: 3m, labels: {l: '{{ $value }}'}}
  - {alert: Both, expr: a > 4 and on(board) b > 4, for: 1m, keep_firing_for: 2m}
  - {alert: Either, expr: a > 8 or b > 8, keep_firing_for: 1m}
`)
	type report struct {
		board    string
		at       int64
		name     []string
		value    []float64
		expected []alert.Transition
	}
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		readings := func(e *Engine, r report) (out []Reading) {
			for i, n := range r.name {
				out = append(out, Reading{e.Series(labels(n, r.board), []series.Label{{Name: "rack", Value: "r"}}), r.value[i]})
			}
			return out
		}
		var reports []report
		for i := range 60 {
			r := report{board: fmt.Sprint("b", rnd.IntN(2)), at: int64(i)*minute + rnd.Int64N(3)*minute} // some come late
			for _, n := range []string{"a", "b"} {
				if rnd.IntN(3) > 0 {
					r.name, r.value = append(r.name, n), append(r.value, float64(rnd.IntN(11)))
				}
			}
			reports = append(reports, r)
		}
		whole := NewEngine(rules)
		for i := range reports {
			reports[i].expected = whole.Observe(reports[i].board, reports[i].at, readings(whole, reports[i]))
		}
		saved := rnd.IntN(len(reports))
		cut := saved + rnd.IntN(len(reports)-saved)
		first := NewEngine(rules)
		for _, r := range reports[:saved] {
			first.Observe(r.board, r.at, readings(first, r))
		}
		state, err := first.Checkpoint()
		if err != nil {
			t.Fatal(err)
		}
		second := NewEngine(rules)
		if err := second.Restore(state); err != nil {
			t.Fatal(err)
		}
		overlap := max(saved-rnd.IntN(10), 0) // the journal may start before the checkpoint
		for _, r := range reports[overlap:cut] {
			second.Seen(r.board, r.at, readings(second, r)...)
			for _, tr := range r.expected {
				b, _ := json.Marshal(tr)
				tr, err := alert.DecodeTransition(b)
				if err != nil {
					t.Fatal(err)
				}
				second.Apply(tr)
				second.Apply(tr)
			}
		}
		for i, r := range reports[cut:] {
			got := second.Observe(r.board, r.at, readings(second, r))
			if d := cmp.Diff(r.expected, got, cmpopts.IgnoreFields(alert.Transition{}, "Received")); d != "" {
				t.Fatalf("seed %d, checkpoint %d, cut %d, report %d: %s", seed, saved, cut, cut+i, d)
			}
			if again := second.Observe(r.board, r.at, readings(second, r)); again != nil {
				t.Fatalf("seed %d: a redelivered report decided again: %v", seed, again)
			}
		}
		if d := cmp.Diff(whole.Firing(), second.Firing(), cmpopts.IgnoreFields(alert.Transition{}, "Received")); d != "" {
			t.Fatalf("seed %d: firing differs: %s", seed, d)
		}
	}
}

func TestSetRules(t *testing.T) {
	e := NewEngine(mustRules(t, "  - {alert: A, expr: a > 5}\n  - {alert: B, expr: a > 5}\n"))
	s := e.Series(labels("a", "b1"), nil)
	e.Observe("b1", 100, []Reading{{s, 6}})
	got := e.SetRules(mustRules(t, "  - {alert: A, expr: a > 7}\n  - {alert: C, expr: a > 2}\n"))
	if len(got) != 1 || got[0].Rule != "g/B" || got[0].State != alert.Inactive {
		t.Errorf("reload gave %v", got)
	}
	if f := e.Firing(); len(f) != 1 || f[0].Rule != "g/A" {
		t.Errorf("firing after reload: %v", f)
	}
	var ids []string
	for _, tr := range e.Observe("b1", 200, []Reading{{s, 6}}) {
		ids = append(ids, tr.Rule+" "+tr.State.String())
	}
	if d := cmp.Diff([]string{"g/A inactive", "g/C firing"}, ids); d != "" {
		t.Error(d)
	}
	if got := e.Forget("b1"); len(got) != 1 || got[0].Rule != "g/C" || len(e.Firing()) != 0 {
		t.Errorf("forget gave %v, left %v", got, e.Firing())
	}
}

// fixedStore answers by expression.
type fixedStore map[string][]series.Result

func (f fixedStore) Query(_ context.Context, expr string, at time.Time) ([]series.Result, error) {
	if r, ok := f[expr]; ok {
		return r, nil
	}
	return nil, errors.New("store is down")
}

func result(v float64, l []series.Label) series.Result {
	return series.Result{Labels: l[1:], At: []int64{1}, Values: []float64{v}}
}

func TestEvaluate(t *testing.T) {
	e := NewEngine(mustRules(t, "  - {alert: A, expr: 'avg_over_time(a[5m]) > 5', for: 10s}\n  - {alert: Arrival, expr: a > 5}\n"))
	e.Series(labels("a", "b1"), []series.Label{{Name: "rack", Value: "r1"}})
	now := time.UnixMilli(1_000_000)
	step := func(store fixedStore, want string) {
		t.Helper()
		now = now.Add(10 * time.Second)
		ts, err := e.Evaluate(t.Context(), store, now)
		got := ""
		for _, tr := range ts {
			got += tr.State.String() + "@" + tr.Labels["board"]
		}
		if err != nil {
			got += err.Error()
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	const expr, bare = "avg_over_time(a[5m]) > 5", "avg_over_time(a[5m])"
	hot := result(6, labels("", "b1", "rack", "r1"))
	step(fixedStore{expr: {hot}}, "pending@b1")
	step(fixedStore{expr: {hot}}, "firing@b1")
	step(fixedStore{}, `t.yml:5: evaluate rule "A": store is down`)
	step(fixedStore{expr: nil, bare: nil}, "")                                                    // vanished
	step(fixedStore{expr: {result(6, labels("", "b1", "rack", "r2"))}}, "")                       // relabelled, still the same
	step(fixedStore{expr: nil, bare: {result(1, labels("", "b1", "rack", "r2"))}}, "inactive@b1") // recovered
	if ts, err := e.Evaluate(t.Context(), fixedStore{}, now.Add(time.Second)); ts != nil || err != nil {
		t.Errorf("evaluated before its interval: %v %v", ts, err)
	}
	now = now.Add(-5 * time.Minute)
	step(fixedStore{expr: {result(6, labels("", "b2"))}}, "pending@b2") // the clock was set back
}

// TestRulesHandlerParameters asks with each parameter of Prometheus' /api/v1/rules, and with nonsense.
func TestRulesHandlerParameters(t *testing.T) {
	rules, err := Load(map[string][]byte{
		"a.yml": []byte(`
groups:
  - name: one
    rules:
      - {alert: Hot, expr: pi_soc_temperature_celsius > 80, labels: {severity: critical, team: day}}
      - {record: 'x:sum', expr: sum(x)}
  - name: two
    rules: [{alert: Warm, expr: pi_soc_temperature_celsius > 60, labels: {severity: warning}}]
`),
		"b.yml": []byte("groups: [{name: one, rules: [{alert: Cold, expr: pi_soc_temperature_celsius < 0}]}]\n"),
	})
	if err != nil {
		t.Fatal(err)
	}
	e := NewEngine(rules)
	e.Observe("b1", 1000, []Reading{{e.Series(labels("pi_soc_temperature_celsius", "b1"), nil), 90}})
	h := Handler(e)
	ask := func(q url.Values) (status int, got, next, refused string, alerts int) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/rules?"+q.Encode(), nil))
		var a struct {
			Error string `json:"error"`
			Data  struct {
				Groups []struct {
					File  string
					Rules []struct {
						Name   string
						State  string
						Alerts []any
					}
				}
				GroupNextToken string
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			t.Fatalf("%v: %s", err, w.Body)
		}
		var names []string
		for _, g := range a.Data.Groups {
			for _, r := range g.Rules {
				names = append(names, r.Name)
				alerts += len(r.Alerts)
				if want := r.Name == "Hot" || r.Name == "Warm"; (r.State == "firing") != want {
					t.Errorf("%s is %q", r.Name, r.State)
				}
			}
		}
		return w.Code, strings.Join(names, " "), a.Data.GroupNextToken, a.Error, alerts
	}
	f := func(want string, pairs ...string) {
		t.Helper()
		q := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			q.Add(pairs[i], pairs[i+1])
		}
		if status, got, _, refused, _ := ask(q); status != 200 || got != want {
			t.Errorf("%v: %d %s %s, want %s", q, status, got, refused, want)
		}
	}
	f("Hot x:sum Warm Cold")
	f("Hot Warm Cold", "type", "alert")
	f("x:sum", "type", "Record")
	f("Warm Cold", "rule_name[]", "Warm", "rule_name[]", "Cold", "rule_name[]", "None")
	f("Hot x:sum Cold", "rule_group[]", "one")
	f("Cold", "file[]", "b.yml")
	f("", "file[]", "c.yml")
	f("Hot", "match[]", `{severity="critical"}`)
	f("Hot Warm", "match[]", `{severity=~"crit.*"}`, "match[]", `{severity="warning"}`)
	f("x:sum Warm Cold", "match[]", `{team!="day"}`)
	f("Hot", "match[]", `{severity="critical"}`, "type", "alert", "rule_group[]", "one", "file[]", "a.yml")
	if _, got, _, _, alerts := ask(url.Values{"exclude_alerts": {"true"}}); got != "Hot x:sum Warm Cold" || alerts != 0 {
		t.Errorf("without alerts: %s with %d", got, alerts)
	}
	if _, _, _, _, alerts := ask(nil); alerts != 2 {
		t.Errorf("%d alerts, want 2", alerts)
	}
	var pages []string
	for token, begin := "", true; begin || token != ""; begin = false {
		q := url.Values{"group_limit": {"1"}}
		if token != "" {
			q.Set("group_next_token", token)
		}
		var got string
		if _, got, token, _, _ = ask(q); len(pages) > 3 {
			t.Fatalf("pages without end: %v", pages)
		}
		pages = append(pages, got)
	}
	if d := cmp.Diff([]string{"Hot x:sum", "Warm", "Cold"}, pages); d != "" {
		t.Error(d)
	}
	for _, bad := range [][3]string{
		{"type", "alerts", `type "alerts": use alert or record`}, {"exclude_alerts", "maybe", "use true or false"}, {"group_limit", "ten", "above zero"},
		{"group_limit", "-1", "above zero"}, {"group_next_token", "x", "give group_limit"}, {"match[]", "{", `match[] "{"`}, {"match[]", "1+1", "one selector"},
		{"match[]", `hot{a="b"}`, "labels of rules"}, {"match[]", `{a=~"("}`, "match[]"},
	} {
		if status, _, _, refused, _ := ask(url.Values{bad[0]: {bad[1]}}); status != 400 || !strings.Contains(refused, bad[2]) {
			t.Errorf("%v: %d %s", bad, status, refused)
		}
	}
	if status, _, _, refused, _ := ask(url.Values{"group_limit": {"1"}, "group_next_token": {"gone"}}); status != 400 || !strings.Contains(refused, "rules have changed") {
		t.Errorf("a token of no group: %d %s", status, refused)
	}
}

func TestFormatQuery(t *testing.T) {
	h := Handler(NewEngine(Default()))
	f := func(r *http.Request, status int, want string) {
		t.Helper()
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != status || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%d %s, want %d %s", w.Code, w.Body, status, want)
		}
	}
	f(httptest.NewRequest("GET", "/api/v1/format_query?query=foo/bar", nil), 200, `"data":"foo / bar"`)
	post := httptest.NewRequest("POST", "/api/v1/format_query", strings.NewReader("query=sum(a)by(b)"))
	post.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	f(post, 200, `"data":"sum(a) by(b)"`)
	f(httptest.NewRequest("GET", "/api/v1/format_query?query=sum(", nil), 400, `"errorType":"bad_data"`)
	f(httptest.NewRequest("GET", "/api/v1/format_query", nil), 400, `"errorType":"bad_data"`)
}

func TestRulesHandler(t *testing.T) {
	e := NewEngine(Default())
	for at := range int64(2) {
		e.Observe("b1", 1000+at, []Reading{{e.Series(labels("pi_soc_temperature_celsius", "b1"), nil), 81}})
	}
	get := func(path string, out any) {
		w := httptest.NewRecorder()
		Handler(e).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
			t.Fatalf("%s: %v: %s", path, err, w.Body)
		}
	}
	var rules struct {
		Data struct {
			Groups []struct {
				Rules []struct {
					Name, State, Type, Health string
					Alerts                    []struct{ Value, State string }
				}
			}
		}
	}
	get("/api/v1/rules", &rules)
	r := rules.Data.Groups[0].Rules[0]
	if r.Name != "SocHot" || r.State != "firing" || r.Type != "alerting" || len(r.Alerts) != 1 || r.Alerts[0].Value != "8.1e+01" {
		t.Errorf("got %+v", r)
	}
	var alerts struct{ Data struct{ Alerts []alertJSON } }
	get("/api/v1/alerts", &alerts)
	if len(alerts.Data.Alerts) != 1 || alerts.Data.Alerts[0].Labels["alertname"] != "SocHot" {
		t.Errorf("got %+v", alerts)
	}
}

// BenchmarkObserve feeds reports of ten readings to 100 rules, all of one board's kind.
func BenchmarkObserve(b *testing.B) {
	bench := func(name, extra string, value float64) {
		b.Run(name, func(b *testing.B) {
			var list strings.Builder
			for i := range 100 {
				fmt.Fprintf(&list, "  - {alert: A%d, expr: 'm%d{board=~\"b.*\"} > %d%s', for: 1m}\n", i, i%10, 100+i, extra)
			}
			e := NewEngine(mustRules(b, list.String()))
			var rs []Reading
			for i := range 10 {
				rs = append(rs, Reading{e.Series(labels(fmt.Sprint("m", i), "b1"), nil), value + float64(i)})
			}
			at := int64(1)
			e.Observe("b1", at, rs)
			at += 60_000
			e.Observe("b1", at, rs) // the pending alert fires
			b.ReportAllocs()
			for b.Loop() {
				at++
				if e.Observe("b1", at, rs) != nil {
					b.Fatal("a transition")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rs)), "ns/reading")
		})
	}
	bench("comparison", "", 0)
	bench("and", " and on(board) m0 > 50", 0)
	bench("all firing", "", 300)
}

// recordedRows notes the results of recording rules, as name{labels} value.
type recordedRows []string

func (r *recordedRows) Record(samples []series.Sample) error {
	for _, sample := range samples {
		*r = append(*r, fmt.Sprintf("%d %v", sample.At, sample.Value))
	}
	return nil
}

// TestRecord: rules that record are no alerts, write their result and the end of series that left it, and stay apart in the API.
func TestRecord(t *testing.T) {
	rules := mustRules(t, "  - {record: 'b:sum', expr: sum(a) by (board)}\n  - {alert: A, expr: 'b:sum > 5'}\n  - {alert: B, expr: a > 5}\n")
	e := NewEngine(rules)
	if rules.Groups[0].Rules[1].OnArrival() || !rules.Groups[0].Rules[2].OnArrival() {
		t.Error("a rule about a recorded series is decided on arrival, or another is not")
	}
	var rows recordedRows
	const sum, hit = "sum(a) by (board)", "b:sum > 5"
	store := fixedStore{sum: {result(6, labels("", "b1")), result(7, labels("", "b2"))}, hit: nil}
	if _, err := e.Evaluate(t.Context(), store, time.UnixMilli(10_000)); err == nil || !strings.Contains(err.Error(), "no store to record to") {
		t.Errorf("without a recorder: %v", err)
	}
	e.RecordTo(&rows)
	for i, s := range []fixedStore{store, {sum: {result(8, labels("", "b2"))}, hit: nil}} {
		if ts, err := e.Evaluate(t.Context(), s, time.UnixMilli(int64(20_000+10_000*i))); ts != nil || err != nil {
			t.Errorf("%v, %v", ts, err)
		}
	}
	if d := cmp.Diff(recordedRows{"20000 6", "20000 7", "30000 8", "30000 NaN"}, rows); d != "" {
		t.Error(d)
	}
	twice := fixedStore{sum: {result(6, labels("", "b1")), result(7, labels("", "b1"))}, hit: nil}
	if _, err := e.Evaluate(t.Context(), twice, time.UnixMilli(40_000)); err == nil || !strings.Contains(err.Error(), "two series") {
		t.Errorf("the same series twice: %v", err)
	}
	for kind, want := range map[string]int{"": 3, "alert": 2, "record": 1} {
		if got := len(e.groupsJSON(rulesQuery{kind: kind})[0].Rules); got != want {
			t.Errorf("%d rules of kind %q, want %d", got, kind, want)
		}
	}
}

func TestFailingRules(t *testing.T) {
	e := NewEngine(mustRules(t, "  - {alert: A, expr: 'avg_over_time(a[5m]) > 5'}\n  - {alert: B, expr: 'avg_over_time(b[5m]) > 5'}\n"))
	reg := prometheus.NewRegistry()
	if err := e.Register(reg); err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(1_000_000)
	step := func(store fixedStore, want int) {
		t.Helper()
		now = now.Add(10 * time.Second)
		_, _ = e.Evaluate(t.Context(), store, now) // the metric tells
		families, err := reg.Gather()
		if err != nil || len(families) != 1 || families[0].GetName() != "bramble_rules_failing" {
			t.Fatal(families, err)
		}
		if got := families[0].Metric[0].GetGauge().GetValue(); got != float64(want) {
			t.Errorf("%v rules fail, want %d", got, want)
		}
	}
	const a, b = "avg_over_time(a[5m]) > 5", "avg_over_time(b[5m]) > 5"
	step(fixedStore{}, 0)
	step(fixedStore{}, 0)
	step(fixedStore{}, 2)
	step(fixedStore{a: nil}, 1)
	step(fixedStore{a: nil, b: nil}, 0)
	step(fixedStore{a: nil}, 0)
	step(fixedStore{a: nil}, 0)
	step(fixedStore{a: nil}, 1)
	e.SetRules(mustRules(t, "  - {alert: A, expr: 'avg_over_time(a[5m]) > 5'}\n"))
	step(fixedStore{a: nil}, 0)
}
