package ruletest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"bramble/storage/series"
)

// testFileYAML is promtool's format with vmalert-tool's additions.
type testFileYAML struct {
	RuleFiles          []string   `yaml:"rule_files"`
	EvaluationInterval string     `yaml:"evaluation_interval"`
	GroupEvalOrder     []string   `yaml:"group_eval_order"`
	FuzzyCompare       bool       `yaml:"fuzzy_compare"`
	Tests              []testYAML `yaml:"tests"`
}

type testYAML struct {
	Name              string            `yaml:"name"`
	Interval          string            `yaml:"interval"`
	StartTimestamp    string            `yaml:"start_timestamp"`
	ExternalLabels    map[string]string `yaml:"external_labels"`
	ExternalURL       string            `yaml:"external_url"`
	InputSeries       []testSeriesYAML  `yaml:"input_series"`
	AlertRuleTest     []alertTestYAML   `yaml:"alert_rule_test"`
	PromQLExprTest    []exprTestYAML    `yaml:"promql_expr_test"`
	MetricsQLExprTest []exprTestYAML    `yaml:"metricsql_expr_test"`
}

type testSeriesYAML struct {
	Series yaml.Node `yaml:"series"`
	Values string    `yaml:"values"`
}

type alertTestYAML struct {
	EvalTime  string         `yaml:"eval_time"`
	Groupname string         `yaml:"groupname"`
	Alertname yaml.Node      `yaml:"alertname"`
	ExpAlerts []expAlertYAML `yaml:"exp_alerts"`
}

type expAlertYAML struct {
	Labels      map[string]string `yaml:"exp_labels"`
	Annotations map[string]string `yaml:"exp_annotations"`
}

type exprTestYAML struct {
	Expr       yaml.Node       `yaml:"expr"`
	EvalTime   string          `yaml:"eval_time"`
	ExpSamples []expSampleYAML `yaml:"exp_samples"`
}

type expSampleYAML struct {
	Labels    string    `yaml:"labels"`
	Value     yaml.Node `yaml:"value"`
	Histogram string    `yaml:"histogram"`
}

// file is one file of rules tests, checked.
type file struct {
	name  string
	rules map[string][]byte
	every time.Duration
	order []string
	tests []test
}

type test struct {
	name     string
	start    time.Time
	shifted  bool              // start is testShift later than the test says
	external map[string]string // labels
	url      string            // external
	series   []testSeries
	alerts   []alertTest
	exprs    []exprTest
}

type testSeries struct {
	labels []series.Label
	at     []int64 // Unix milliseconds
	values []float64
}

type alertTest struct {
	line        int
	at          time.Duration
	name, group string
	want        []sentAlert
}

// sentAlert holds the labels and annotations that a receiver would get of an alert.
type sentAlert struct{ Labels, Annotations map[string]string }

type exprTest struct {
	line  int
	at    time.Duration
	expr  string
	want  []sample
	fuzzy bool
}

type sample struct {
	series string
	value  float64
}

// readFile reads one file and the rule files that it names, which are relative to it. The error holds every
// problem found.
func readFile(name string) (*file, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read rules test: %w", err)
	}
	f, patterns, err := parseFile(name, data)
	if err != nil {
		return nil, err
	}
	for _, pattern := range patterns {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(name), pattern)
		}
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			return nil, fmt.Errorf("%s: rule_files: no file matches %q", name, pattern)
		}
		for _, file := range found {
			if f.rules[file], err = os.ReadFile(file); err != nil {
				return nil, fmt.Errorf("%s: rule_files: %w", name, err)
			}
		}
	}
	return f, nil
}

func parseFile(name string, data []byte) (f *file, ruleFiles []string, err error) {
	defer func() {
		if r := recover(); r != nil {
			f, err = nil, fmt.Errorf("%s: decode YAML: %v", name, r)
		}
	}()
	var raw testFileYAML
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&raw); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, yamlError(name, err)
	}
	f = &file{name: name, rules: map[string][]byte{}, order: raw.GroupEvalOrder}
	var errs []error
	f.every = parseDuration(name+": evaluation_interval", raw.EvaluationInterval, time.Minute, &errs)
	if f.every <= 0 {
		errs = append(errs, fmt.Errorf("%s: evaluation_interval: %q: must be positive", name, raw.EvaluationInterval))
	}
	if len(raw.Tests) == 0 {
		errs = append(errs, fmt.Errorf("%s: no tests: add `tests:`", name))
	}
	seen := map[string]bool{}
	for _, g := range raw.GroupEvalOrder {
		if seen[g] {
			errs = append(errs, fmt.Errorf("%s: group_eval_order: group %q is named twice", name, g))
		}
		seen[g] = true
	}
	for i := range raw.Tests {
		t := &raw.Tests[i]
		where := fmt.Sprintf("%s: test %d", name, i+1)
		if t.Name != "" {
			where = fmt.Sprintf("%s: test %q", name, t.Name)
		}
		built := t.build(where, name, f.every, &errs)
		for j := range built.exprs {
			built.exprs[j].fuzzy = raw.FuzzyCompare
		}
		f.tests = append(f.tests, built)
	}
	return f, raw.RuleFiles, errors.Join(errs...)
}

func (t *testYAML) build(where, file string, every time.Duration, errs *[]error) test {
	out := test{name: where, start: time.Unix(0, 0), external: t.ExternalLabels, url: t.ExternalURL}
	if t.StartTimestamp != "" {
		var err error
		if out.start, err = parseTestStart(t.StartTimestamp); err != nil {
			*errs = append(*errs, fmt.Errorf("%s: %w", where, err))
		}
	}
	if out.shifted = out.start.Before(time.Unix(0, 0).Add(48 * time.Hour)); out.shifted {
		out.start = out.start.Add(testShift)
	}
	interval := parseDuration(where+": interval", t.Interval, every, errs)
	if interval <= 0 {
		*errs = append(*errs, fmt.Errorf("%s: interval: %q: must be positive", where, t.Interval))
	}
	for i := range t.InputSeries {
		s, err := t.InputSeries[i].build(out.start, interval)
		if err != nil {
			*errs = append(*errs, fmt.Errorf("%s:%d: %w", file, t.InputSeries[i].Series.Line, err))
		}
		out.series = append(out.series, s)
	}
	for i := range t.AlertRuleTest {
		a := &t.AlertRuleTest[i]
		at := fmt.Sprintf("%s:%d", file, a.Alertname.Line)
		if a.Alertname.Value == "" {
			*errs = append(*errs, fmt.Errorf("%s: alert_rule_test %d: add `alertname: NAME`", where, i+1))
		}
		c := alertTest{line: a.Alertname.Line, name: a.Alertname.Value, group: a.Groupname}
		c.at = parseDuration(at+": eval_time", a.EvalTime, 0, errs)
		for _, e := range a.ExpAlerts {
			c.want = append(c.want, sentAlert(e))
		}
		out.alerts = append(out.alerts, c)
	}
	for _, e := range append(t.PromQLExprTest, t.MetricsQLExprTest...) {
		c, err := e.build(fmt.Sprintf("%s:%d", file, e.Expr.Line), errs)
		if err != nil {
			*errs = append(*errs, fmt.Errorf("%s:%d: %w", file, e.Expr.Line, err))
		}
		out.exprs = append(out.exprs, c)
	}
	return out
}

// parseTestStart reads a time as RFC 3339 or in Unix seconds.
func parseTestStart(text string) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at, nil
	}
	var seconds float64
	if _, err := fmt.Sscan(text, &seconds); err != nil || seconds < 0 || seconds > 4e9 {
		return time.Unix(0, 0), fmt.Errorf("start_timestamp: %q: write it like 2026-01-31T10:00:00Z or in Unix seconds", text)
	}
	return time.UnixMilli(int64(seconds * 1000)), nil
}

func (s *testSeriesYAML) build(start time.Time, interval time.Duration) (testSeries, error) {
	labels, err := parseTestSeries(s.Series.Value)
	if err != nil {
		return testSeries{}, err
	}
	if !slices.ContainsFunc(labels, func(l series.Label) bool { return l.Name == series.NameLabel }) {
		return testSeries{}, fmt.Errorf("series %q: has no name", s.Series.Value)
	}
	values, err := parseTestValues(s.Values)
	if err != nil {
		return testSeries{}, fmt.Errorf("series %q: %w", s.Series.Value, err)
	}
	out := testSeries{labels: labels}
	for i, v := range values {
		if v.gone {
			continue
		}
		if v.stale {
			v.value = series.Stale
		}
		out.at = append(out.at, start.Add(time.Duration(i)*interval).UnixMilli())
		out.values = append(out.values, v.value)
	}
	return out, nil
}

func (e *exprTestYAML) build(where string, errs *[]error) (exprTest, error) {
	c := exprTest{line: e.Expr.Line, expr: e.Expr.Value}
	c.at = parseDuration(where+": eval_time", e.EvalTime, 0, errs)
	if c.expr == "" {
		return c, errors.New("promql_expr_test without an expression: add `expr: EXPRESSION`")
	}
	for _, s := range e.ExpSamples {
		if s.Histogram != "" {
			return c, errors.New("exp_samples: native histograms are not stored here")
		}
		labels, err := parseTestSeries(s.Labels)
		if err != nil {
			return c, fmt.Errorf("exp_samples: %w", err)
		}
		var v float64
		if s.Value.Value != "" {
			if err := s.Value.Decode(&v); err != nil {
				return c, fmt.Errorf("exp_samples: value %q: not a number", s.Value.Value)
			}
		}
		c.want = append(c.want, sample{seriesText(labels), v})
	}
	return c, nil
}

// unknownField matches the decoder's wording for a key that a struct lacks.
var unknownField = regexp.MustCompile(`line (\d+): field (\S+) not found in type \S+`)

// yamlError puts the file before each problem that the decoder found.
func yamlError(file string, err error) error {
	var list *yaml.TypeError
	if !errors.As(err, &list) {
		return fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var errs []error
	for _, text := range list.Errors {
		errs = append(errs, fmt.Errorf("%s: %s", file, unknownField.ReplaceAllString(text, `line $1: key "$2" is unknown`)))
	}
	return errors.Join(errs...)
}

func parseDuration(where, text string, empty time.Duration, errs *[]error) time.Duration {
	if text == "" {
		return empty
	}
	d, err := model.ParseDuration(text)
	if err != nil {
		*errs = append(*errs, fmt.Errorf("%s: %w; write it like 90s or 5m", where, err))
	}
	return time.Duration(d)
}
