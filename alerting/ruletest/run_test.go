package ruletest

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bramble/storage"
)

func TestMain(m *testing.M) {
	const engine = "github.com/VictoriaMetrics/VictoriaMetrics/lib/" // the store's; it starts these once a process and never ends them
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(engine+"logger.logLimiterCleaner"),
		goleak.IgnoreAnyFunction(engine+"workingsetcache.(*Cache).expirationWatcher"),
		goleak.IgnoreAnyFunction(engine+"workingsetcache.(*Cache).prevCacheWatcher"),
		goleak.IgnoreAnyFunction(engine+"workingsetcache.(*Cache).cacheSizeWatcher"),
		goleak.IgnoreCurrent())
}

// openStore is a store for one rules test.
func openStore(t testing.TB) func() (Store, func() error, error) {
	return func() (Store, func() error, error) {
		s, err := storage.Open(t.TempDir(), storage.Options{MemoryBytes: 64 << 20, Retention: 99 * 365 * 24 * time.Hour})
		if err != nil {
			return nil, nil, err
		}
		return s, s.Close, nil
	}
}

// TestCorpus runs the corpus: every check passes, but for those of wrong.test.yml, each of which fails.
func TestCorpus(t *testing.T) {
	t.Parallel()
	for _, file := range corpus(t) {
		var out bytes.Buffer
		err := Run(t.Context(), []string{file}, &out, openStore(t))
		if strings.HasSuffix(file, "wrong.test.yml") {
			if err == nil || err.Error() != "12 of 12 checks failed" {
				t.Errorf("%s: %v\n%s", file, err, &out)
			}
			continue
		}
		if err != nil || !strings.HasPrefix(out.String(), file+": ok, ") {
			t.Errorf("%s: %v\n%s", file, err, &out)
		}
	}
}

func corpus(t testing.TB) []string {
	files, err := filepath.Glob("testdata/*.test.yml")
	if err != nil || len(files) == 0 {
		t.Fatal("no corpus", err)
	}
	return files
}

// TestDifference checks the text that a person reads.
func TestDifference(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "r.yml"), "groups:\n- name: g\n  rules:\n  - {alert: A, expr: a > 5, labels: {s: x}}\n")
	file := filepath.Join(dir, "t.yml")
	writeFile(t, file, `rule_files: [r.yml]
tests:
  - input_series: [{series: 'a{b="c"}', values: 6x5}]
    alert_rule_test:
      - eval_time: 2m
        alertname: A
        exp_alerts: [{exp_labels: {b: d, s: x}}]
    promql_expr_test:
      - expr: a
        eval_time: 1m
`)
	var out bytes.Buffer
	err := Run(t.Context(), []string{file}, &out, openStore(t))
	want := file + `:6: alert A at 2m0s
  expected: {alertname="A",b="d",s="x"}
  got:      {alertname="A",b="c",s="x"}
` + file + `:9: expression a at 1m0s
  expected: nothing
  got:      a{b="c"} 6
`
	if out.String() != want || err == nil || err.Error() != "2 of 2 checks failed" {
		t.Errorf("%v\n%s", err, &out)
	}
}

func TestErrors(t *testing.T) {
	f := func(yaml string, want ...string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "t.yml")
		writeFile(t, file, yaml)
		err := Run(t.Context(), []string{file}, &bytes.Buffer{}, func() (Store, func() error, error) {
			return nil, nil, errors.New("no store is needed")
		})
		if err == nil {
			t.Fatalf("no error for %q", yaml)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("error %q lacks %q", err, w)
			}
		}
	}
	const series = "tests:\n- input_series:\n  - {series: a, values: '"
	f("rule_file: [x]\n", "t.yml: line 1", `key "rule_file" is unknown`)
	f("rule_files: [none.yml]\ntests: [{}]\n", "no file matches")
	f("tests: []\n", "no tests")
	f("evaluation_interval: soon\ntests: [{}]\n", "evaluation_interval", "soon")
	f("evaluation_interval: 0s\ntests: [{interval: 0s}]\n", "must be positive", "interval")
	f("group_eval_order: [a, a]\ntests: [{}]\n", `group "a" is named twice`)
	f(series+"1+2'}\n", "t.yml:3", `value "1+2"`)
	f(series+"1x9999999999999999999'}\n", "at most")
	f(series+"1x5999999 1x9'}\n", "more than")
	f(series+"'}\n", "no values")
	f(series+"{{schema:1}}'}\n", "native histograms")
	f("tests:\n- input_series:\n  - {series: 'a{b=~\"c\"}', values: 1}\n", "t.yml:3", "not matchers")
	f("tests:\n- input_series:\n  - {series: 'a +', values: 1}\n", "t.yml:3")
	f("tests:\n- input_series:\n  - {series: '{b=\"c\"}', values: 1}\n", "has no name")
	f("tests:\n- alert_rule_test:\n  - {eval_time: 1m}\n", "add `alertname")
	f("tests:\n- promql_expr_test:\n  - {eval_time: 1m}\n", "add `expr")
	f("tests:\n- promql_expr_test:\n  - {expr: a, eval_time: x}\n", "t.yml:3", "eval_time")
	f("tests:\n- promql_expr_test:\n  - {expr: a, exp_samples: [{labels: a, value: much}]}\n", "t.yml:3", `value "much"`)
	f("tests:\n- start_timestamp: yesterday\n", `"yesterday"`)
}

// TestOfTheFuture wants an error for series that end in the future.
func TestOfTheFuture(t *testing.T) {
	file := filepath.Join(t.TempDir(), "t.yml")
	for _, text := range []string{
		"tests:\n- start_timestamp: \"2090-01-01T00:00:00Z\"\n  input_series: [{series: a, values: '1'}]\n",
		"tests:\n- interval: 1000d\n  input_series: [{series: a, values: '1x100'}]\n",
	} {
		writeFile(t, file, text)
		err := Run(t.Context(), []string{file}, &bytes.Buffer{}, openStore(t))
		if err == nil || !strings.Contains(err.Error(), "t.yml: test 1: series a ends in the future, at 20") && !strings.Contains(err.Error(), "at 22") {
			t.Error(err)
		}
	}
}

// TestOfBadRules names the rule file, not the test.
func TestOfBadRules(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "r.yml"), "groups:\n- name: g\n  rules:\n  - {record: a:b, expr: a, for: 1m}\n")
	writeFile(t, filepath.Join(dir, "t.yml"), "rule_files: [r.yml]\ntests: [{}]\n")
	err := Run(t.Context(), []string{filepath.Join(dir, "t.yml")}, &bytes.Buffer{}, openStore(t))
	if err == nil || !strings.Contains(err.Error(), `r.yml:4: recording rule "a:b"`) {
		t.Error(err)
	}
}

func writeFile(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func FuzzFile(f *testing.F) {
	for _, file := range corpus(f) {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, _, err := parseFile("t.yml", data)
		if err == nil && (len(got.tests) == 0 || got.every <= 0) {
			t.Errorf("%+v without an error", got)
		}
	})
}

func FuzzValues(f *testing.F) {
	for _, text := range []string{"1 2 _ stale", "1+2x3 -1-.5x2 _x4", "Inf NaN -inf 1e3x2", "x", "1x", "_+1x2", "{{schema:0}}"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		values, err := parseTestValues(text)
		if (err == nil) != (len(values) > 0) || len(values) > maxTestValues {
			t.Errorf("%q: %d values, %v", text, len(values), err)
		}
		for _, v := range values {
			if math.IsNaN(v.value) && !v.gone {
				t.Errorf("%q: a NaN that is there", text)
			}
		}
	})
}
