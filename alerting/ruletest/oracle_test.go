package ruletest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// oracle is another program that runs rules tests.
type oracle struct {
	name, path string
	args       []string // before the file's name
}

// oracles finds promtool and vmalert-tool: by BRAMBLE_PROMTOOL and BRAMBLE_VMALERT_TOOL, or in PATH. Debian's promtool 2.42
// does not know all of the notation; the one of prometheus v0.316.0 does.
func oracles(t *testing.T) []oracle {
	t.Helper()
	all := []oracle{
		{name: "promtool", args: []string{"test", "rules"}},
		{name: "vmalert-tool", args: []string{"unittest", "--disableAlertgroupLabel", "--files"}},
	}
	for i, variable := range []string{"BRAMBLE_PROMTOOL", "BRAMBLE_VMALERT_TOOL"} {
		all[i].path = os.Getenv(variable)
		if all[i].path != "" {
			continue
		}
		path, err := exec.LookPath(all[i].name)
		if err != nil {
			t.Skipf("no %s: set %s to its path", all[i].name, variable)
		}
		all[i].path = path
	}
	return all
}

// passes runs the program on a file and reports its verdict.
func (o oracle) passes(t *testing.T, file string) (bool, string) {
	t.Helper()
	if o.name == "vmalert-tool" {
		file = asMetricsQL(t, file)
	}
	out, err := exec.CommandContext(t.Context(), o.path, append(slices.Clone(o.args), file)...).CombinedOutput()
	return err == nil, string(out)
}

// asMetricsQL copies a test file with the key under which vmalert-tool looks for tests of expressions.
func asMetricsQL(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := yaml.Unmarshal(bytes.ReplaceAll(data, []byte("promql_expr_test"), []byte("metricsql_expr_test")), &doc); err != nil {
		t.Fatal(err)
	}
	rules, _ := doc["rule_files"].([]any)
	for i := range rules {
		rules[i] = filepath.Join(dir, fmt.Sprint(rules[i]))
	}
	if len(rules) == 0 { // it wants at least one
		doc["rule_files"] = []string{filepath.Join(dir, "heat.rules.yml")}
	}
	copied := filepath.Join(t.TempDir(), "t.yml")
	writeYAML(t, copied, doc)
	return copied
}

func writeYAML(t *testing.T, file string, doc any) {
	t.Helper()
	data, err := yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, string(data))
}

// TestSameVerdicts asks promtool and vmalert-tool about the corpus. Names of files say where they differ, by design.
func TestSameVerdicts(t *testing.T) {
	for _, o := range oracles(t) {
		for _, file := range append(corpus(t), "../rules/testdata/default.test.yml") {
			want := true
			switch {
			case file == "../rules/testdata/default.test.yml" && o.name == "promtool":
				continue // increase() and resets()
			case strings.HasSuffix(file, ".vmalert.test.yml") && o.name == "promtool", strings.HasSuffix(file, ".promtool.test.yml") && o.name != "promtool":
				continue // each of these programs says something else
			case strings.HasSuffix(file, ".differs.test.yml"), strings.HasSuffix(file, "wrong.test.yml"):
				want = false
			}
			if got, out := o.passes(t, file); got != want {
				t.Errorf("%s passes %s: %v, want %v\n%s", o.name, file, got, want, out)
			}
		}
	}
}

// randomRules are expressions on which PromQL and MetricsQL agree.
var randomRules = []string{
	"temp > 5", "temp >= 5 and on(board) load > 3", "temp > 8 or load > 8", "temp > 4 unless on(board) load > 6", "5 < temp", "temp != 3",
	"max by (rack) (temp) > 7", "count by (rack) (temp > 5) >= 2", "sum(load) > 9", "temp > ignoring(x) load", "min_over_time(temp[5m]) > 2",
	"avg by (board) (avg_over_time(temp[6m])) > 5", "temp - on(board, rack) load > 2", "absent(temp{board=\"b9\"})", "temp == bool 5 == 1",
	// Several that ask the store together, and such as ask for one operand first.
	"avg_over_time(temp[6m]) > 4", "avg_over_time(temp[6m]) > 6", "avg_over_time(temp[6m]) < 5", "avg_over_time(temp[6m]) < 3", "count by (rack) (temp > 5) >= 1",
	"temp - on(board, rack) load > 0 and on(board) load > 3", "avg_over_time(temp[6m]) > 5 and on(board) load - on(board, rack) temp < 2",
}

// TestRandomRulesAgree writes the engine's decisions for random rules and series as a test, which both programs must pass;
// and a test without one of the alerts, which they must fail.
func TestRandomRulesAgree(t *testing.T) {
	all := oracles(t)
	seeds := uint64(4)
	if os.Getenv("BRAMBLE_ENDURANCE") == "1" {
		seeds = 16
	}
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(seed, 7))
		dir := t.TempDir()
		file := filepath.Join(dir, "t.yml")
		writeYAML(t, filepath.Join(dir, "r.yml"), randomRuleFile(rnd))
		doc := randomTest(rnd)
		writeYAML(t, file, doc)
		firing := decideTest(t, file, doc)
		writeYAML(t, file, doc)
		for _, o := range all {
			if ok, out := o.passes(t, file); !ok {
				rules, _ := os.ReadFile(filepath.Join(dir, "r.yml"))
				test, _ := os.ReadFile(file)
				t.Fatalf("seed %d: %s does not agree\n%s\n%s\n%s", seed, o.name, out, rules, test)
			}
		}
		if firing == nil {
			continue
		}
		firing["exp_alerts"] = firing["exp_alerts"].([]any)[1:]
		writeYAML(t, file, doc)
		for _, o := range all {
			if ok, _ := o.passes(t, file); ok {
				t.Errorf("seed %d: %s confirms what is wrong", seed, o.name)
			}
		}
	}
}

func randomRuleFile(rnd *rand.Rand) any {
	var rules []any
	for i := range 8 {
		r := map[string]any{"alert": fmt.Sprint("A", i), "expr": randomRules[rnd.IntN(len(randomRules))],
			"annotations": map[string]string{"s": "{{ $labels.board }} {{ $value }}"}}
		if rnd.IntN(2) == 0 {
			r["for"] = fmt.Sprint(rnd.IntN(5), "m")
		}
		if rnd.IntN(2) == 0 {
			r["keep_firing_for"] = fmt.Sprint(rnd.IntN(5), "m")
		}
		rules = append(rules, r)
	}
	return map[string]any{"groups": []any{map[string]any{"name": "g", "rules": rules}}}
}

func randomTest(rnd *rand.Rand) map[string]any {
	var series []any
	for board := range 4 {
		for _, name := range []string{"temp", "load", "up_total"} {
			values := fmt.Sprint(rnd.IntN(10)) // each begins with one: a series that never existed has not vanished
			for range 29 {
				if rnd.IntN(6) == 0 && !strings.HasSuffix(values, "_ _ _") {
					values += " _"
				} else {
					values += fmt.Sprint(" ", rnd.IntN(10))
				}
			}
			series = append(series, map[string]any{"series": fmt.Sprintf(`%s{board="b%d",rack="r%d"}`, name, board, board/2), "values": values})
		}
	}
	var checks []any
	for minute := range 30 {
		for i := range 8 {
			checks = append(checks, map[string]any{"eval_time": fmt.Sprint(minute, "m"), "alertname": fmt.Sprint("A", i)})
		}
	}
	return map[string]any{"rule_files": []string{"r.yml"}, "tests": []any{map[string]any{"input_series": series, "alert_rule_test": checks}}}
}

// decideTest fills in the engine's decisions, and returns a check with an alert, nil where none fires.
func decideTest(t *testing.T, file string, doc map[string]any) (firing map[string]any) {
	t.Helper()
	f, err := readFile(file)
	if err != nil {
		t.Fatal(err)
	}
	store, done, err := openStore(t)()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	p, err := f.player(&f.tests[0], store)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Duration(-1)
	for _, c := range doc["tests"].([]any)[0].(map[string]any)["alert_rule_test"].([]any) {
		check := c.(map[string]any)
		when, err := time.ParseDuration(check["eval_time"].(string))
		if err != nil {
			t.Fatal(err)
		}
		if when != at {
			at = when
			if err := p.evaluate(t.Context(), f.tests[0].start.Add(at)); err != nil {
				t.Fatal(err)
			}
		}
		var alerts []any
		for _, tr := range p.engine.FiringNow() {
			if tr.Labels[alertLabel] != check["alertname"] {
				continue
			}
			labels := maps.Clone(tr.Labels)
			delete(labels, alertLabel)
			alerts = append(alerts, map[string]any{"exp_labels": labels, "exp_annotations": tr.Annotations})
		}
		if check["exp_alerts"] = alerts; len(alerts) > 0 {
			firing = check
		}
	}
	return firing
}
