package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metricsql"

	"bramble/alerting/alert"
)

// mustRules loads rules given as the `rules:` list of one group.
func mustRules(t testing.TB, list string) *Rules {
	t.Helper()
	r, err := Load(map[string][]byte{"t.yml": []byte("groups:\n- name: g\n  interval: 10s\n  rules:\n" + list)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestDefaultRules(t *testing.T) {
	n := 0
	for r := range Default().All() {
		n++
		if slow := []string{"BoardRebooted", "BootLoop", "NetworkErrors", "LinkFlaps", "SensorOverBudget", "UnderVoltageDips", "IngestRejects", "ConnectionsRefused", "CollectorFault", "BackupStale", "BackupNeverVerified"}; r.OnArrival() == slices.Contains(slow, r.Name) {
			t.Errorf("%s is decided on arrival: %v", r.Name, r.OnArrival())
		}
		for _, want := range []string{"summary", "description", "runbook"} {
			if r.Annotations[want] == "" {
				t.Errorf("%s lacks %s", r.Name, want)
			}
		}
		if r.Labels["severity"] == "" || r.KeepFiringFor == 0 {
			t.Errorf("%s lacks severity or hysteresis", r.Name)
		}
	}
	if n != 30 {
		t.Errorf("%d default rules, want 30", n)
	}
}

// TestDefaultRulesOnArrival feeds a minute's readings: half an hour of bad ones, and good ones again.
func TestDefaultRulesOnArrival(t *testing.T) {
	f := func(rule, metric string, bad, good float64, want string) {
		t.Helper()
		e := NewEngine(Default())
		s := e.Series(labels(metric, "b1"), nil)
		var got []string
		for i := range int64(60) {
			v := good
			if i >= 5 && i < 35 {
				v = bad
			}
			for _, tr := range e.Observe("b1", (i+1)*minute, []Reading{{s, v}}) {
				if tr.Labels["alertname"] == rule {
					got = append(got, fmt.Sprintf("%d:%s", i, tr.State))
				}
			}
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: %s, want %s", rule, text, want)
		}
	}
	f("NfsStalled", "pi_nfs_rtt_seconds", 1.5, 0.002, "5:pending 6:firing 35:cooling 37:inactive")
	f("ClockOff", "pi_clock_offset_seconds", -3, 0.2, "5:pending 10:firing 35:cooling 40:inactive")
	f("ClockOff", "pi_clock_offset_seconds", 3, -0.2, "5:pending 10:firing 35:cooling 40:inactive")
	f("MemoryLow", "pi_memory_available_bytes", 30e6, 300e6, "5:pending 10:firing 35:cooling 45:inactive")
	f("RemoteStoreDown", "bramble_remote_up", 0, 1, "5:pending 7:firing 35:cooling 36:inactive")
	f("BoardSilent", "pi_board_up", 0, 1, "5:firing 35:cooling 36:inactive")
}

func TestLoadRulesErrors(t *testing.T) {
	f := func(yaml string, want ...string) {
		t.Helper()
		r, err := Load(map[string][]byte{"bad.yml": []byte(yaml)})
		if err == nil || r != nil {
			t.Fatalf("no error for %q", yaml)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("error %q lacks %q", err, w)
			}
		}
	}
	f("groups:\n- name: g\n  rulez: []\n", "bad.yml: line 3", `key "rulez" is unknown`)
	f("groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up >\n", "bad.yml:4", `rule "A"`, "expr at line 5")
	f("groups:\n- name: g\n  rules:\n  - record: a b\n    expr: up\n", "bad.yml:4", `recording rule "a b": not a valid name`)
	f("groups:\n- name: g\n  rules:\n  - record: a:b\n    expr: up >\n", "bad.yml:4", "expr at line 5")
	f("groups:\n- name: g\n  rules:\n  - {record: 'a:b', expr: up, for: 1m}\n", "bad.yml:4", "are for alerts")
	f("groups:\n- name: g\n  rules:\n  - {record: 'a:b', alert: A, expr: up}\n", "bad.yml:4", "keep one of")
	f("groups:\n- name: g\n  rules:\n  - {record: 'a:b', expr: up, labels: {__name__: x}}\n", "bad.yml:4", `label "__name__"`)
	f("groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up > 1\n    for: soon\n", `rule "A": for`, "soon")
	f("groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up > 1\n    annotations: {s: '{{ .Foo'}\n", "bad.yml:4", `annotation "s"`)
	f("groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up > 1\n    labels: {__x: y}\n", `label "__x"`)
	f("groups:\n- name: g\n- name: g\n", "bad.yml:3", "used twice")
	f("groups:\n- name: g\n  rules:\n  - expr: up > 1\n", "rule without a name")
	f("groups:\n- name: g\n  rules:\n  - alert: A\n", `rule "A": add`)
	f("\t", "bad.yml")
	f("groups: []\n---\ngroups: []\n", "one a file")
}

func TestClassify(t *testing.T) {
	f := func(expr string, onArrival bool) {
		t.Helper()
		r := mustRules(t, "  - alert: A\n    expr: '"+expr+"'\n")
		if got := r.Groups[0].Rules[0].OnArrival(); got != onArrival {
			t.Errorf("%s: on arrival %v, want %v", expr, got, onArrival)
		}
	}
	f(`up == 0`, true)
	f(`80 < pi_soc_temperature_celsius{rack=~"r.*",board!="x"}`, true)
	f(`(a > 1) and on(board) (b < -2 or on(board) c != 3)`, true)
	f(`a > 1 and b > 2`, true)
	f(`a > 1 and on(rack) b > 2`, false)
	f(`a > 1 and ignoring(board) b > 2`, false)
	f(`a > 1 unless b > 2`, false)
	f(`a > bool 1`, false)
	f(`a > b`, false)
	f(`a offset 5m > 1`, false)
	f(`avg_over_time(a[5m]) > 1`, false)
	f(`{__name__=~"a|b"} > 1`, false)
	f(`{a="b"} > 1`, false)
	f(`absent(a)`, false)
	f(`a`, false)
}

func TestRuleIDs(t *testing.T) {
	r := mustRules(t, `
  - {alert: A, expr: a > 1}
  - {alert: A, expr: a > 2, labels: {severity: x}}
  - {alert: A, expr: a > 3}
  - {alert: A, expr: a > 3}
`)
	seen := map[string]bool{}
	for rule := range r.All() {
		if seen[rule.ID] {
			t.Errorf("ID %q is used twice", rule.ID)
		}
		seen[rule.ID] = true
	}
	if !seen["g/A"] || !seen[`g/A{severity="x"}`] {
		t.Errorf("IDs are %v", seen)
	}
}

func TestWarnings(t *testing.T) {
	r := mustRules(t, `
  - {alert: A, expr: 'ALERTS{alertstate="firing"} == 1'}
  - {alert: B, expr: a > 1, labels: {l: '{{ if true }}{{ range query "up" }}{{ end }}{{ end }}'}, annotations: {s: 'a query'}}
  - {alert: C, expr: a > 1, annotations: {s: '{{ with $labels.x }}{{ . }}{{ else }}{{ query "up" | first | value }}{{ end }}', t: '{{ $value | humanize }}'}}
  - {alert: D, expr: 'sum(a) > 1', annotations: {s: '{{ with $value }}{{ . }}{{ end }}'}}
`)
	want := []string{`t.yml:6: rule "A": nothing writes`, `t.yml:7: rule "B": l: a template cannot query`, `t.yml:8: rule "C": s: a template cannot query`}
	got := r.Warnings()
	if len(got) != len(want) {
		t.Fatalf("got %q", got)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
	}
	if w := Default().Warnings(); w != nil {
		t.Error(w)
	}
}

func TestTemplates(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		rt, err := parseRuleText("a", text)
		if err != nil {
			t.Fatal(err)
		}
		got := rt.render(templateData{Labels: map[string]string{"board": "b1"}, Value: 0.256})
		if !strings.Contains(got, want) {
			t.Errorf("%s renders %q, want %q in it", text, got, want)
		}
	}
	f("plain", "plain")
	f("{{ $labels.board }} {{ .Value }}", "b1 0.256")
	f("{{ $value | humanizePercentage }}", "25.6%")
	f("{{ humanizeDuration 3661 }}", "1h 1m 1s")
	f("{{ $labels.absent }}x", "x")
	f(`{{ query "up" }}`, "error expanding template")
	f(`{{ index .Labels 3 }}`, "error expanding template")
	f(`{{ reReplaceAll "(" "" "x" }}`, "error expanding template")
	f(`{{ printf "%100000d" 1 }}`, "error expanding template")
}

func FuzzLoadRules(f *testing.F) {
	f.Add(defaultRules)
	f.Add([]byte("groups:\n- name: g\n  rules:\n  - {alert: A, expr: 'a > 1 and on(board) b < 2', for: 1m, labels: {x: '{{ $value }}'}}\n"))
	f.Add([]byte("groups: [{name: &a x, rules: [{record: *a}]}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Load(map[string][]byte{"f.yml": data})
		if (r == nil) == (err == nil) {
			t.Fatalf("rules %v with error %v", r, err)
		}
		if err == nil {
			e := NewEngine(r)
			s := e.Series(labels("a", "b1"), nil)
			e.Observe("b1", time.Now().UnixMilli(), []Reading{{s, 5}})
		}
	})
}

func FuzzDecodeTransition(f *testing.F) {
	f.Add([]byte(`{"rule":"g/A","series":"x","labels":{"a":"b"},"from":"inactive","state":"firing","at":5,"since":5,"fired_at":5,"received":6,"value":"NaN"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tr, err := alert.DecodeTransition(data)
		if err != nil {
			return
		}
		NewEngine(Default()).Apply(tr)
	})
}

func TestComparison(t *testing.T) {
	narrow := []metricsql.LabelFilter{{Label: "board", Value: "b1"}}
	f := func(expr, want string, op operator, limit float64) {
		t.Helper()
		text := "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: '" + expr + "'\n"
		rules, err := Load(map[string][]byte{"r.yml": []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		x, ok := NewEngine(rules).Comparison(rules.Groups[0].Rules[0].ID, narrow)
		if !ok || x.Expr != want || x.op != op || x.Limit != limit {
			t.Errorf("%s: got %q %v %v, want %q %v %v", expr, x.Expr, x.op, x.Limit, want, op, limit)
		}
	}
	f(`m >= 80`, `m{board="b1"}`, opGreaterEqual, 80)
	f(`80 < m{a="1"}`, `m{a="1",board="b1"}`, opGreater, 80)
	f(`m > 5 and n == 1`, `m{board="b1"}`, opGreater, 5)
	f(`rate(m[5m]) / n > 0.5`, `rate(m{board="b1"}[5m]) / n{board="b1"}`, opGreater, 0.5)
	f(`absent(m)`, `absent(m{board="b1"})`, 0, 0)
}

func TestPresence(t *testing.T) {
	f := func(expr, want string) {
		t.Helper()
		r := mustRules(t, "  - alert: A\n    expr: '"+expr+"'\n")
		if got := r.Groups[0].Rules[0].presence; got != want {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
	f(`a > 5`, `a`)
	f(`5 < a`, `a`)
	f(`a > bool 5`, ``)
	f(`a`, ``)
	f(`absent(a) or b > 5`, ``)
	f(`a > 5 or b > 5`, `a or b`)
	f(`(a > 5 and b) unless c`, `a`)
	f(`count by(rack) (a > 75) / count by(rack) (a) >= 0.5`, `count(a) by(rack) / count(a) by(rack)`)
	f(`topk(3, a) > 80`, `a`)
	f(`max_over_time((a > 75)[10m:1m]) - 5 > 0`, `max_over_time(a[10m:1m]) - 5`)
	f(`avg_over_time(a[5m]) > 5`, `avg_over_time(a[5m])`)
}
