package ruletest

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/VictoriaMetrics/metricsql"

	"bramble/storage/series"
)

// maxTestValues bounds one series of a rules test: two months of a value a second are fewer.
const maxTestValues = 6_000_000

// testValue is one place in a series of a rules test.
type testValue struct {
	value float64
	gone  bool // there is no sample
	stale bool // the series ends
}

const testNumber = `[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|[iI]nf|[nN]a[nN])`

// testItem matches 5, 5x3, 1+2x3, 1-2x3, _ and _x3.
var testItem = regexp.MustCompile(`^(?:(_)|(` + testNumber + `?)([+-]` + strings.TrimPrefix(testNumber, "[+-]?") + `)?)(?:x(\d+))?$`)

// parseTestValues expands promtool's notation of a series' values: `a+bxn` is n+1 values from a on, `axn` n+1 times a,
// `_` no sample and `_xn` n times none, `stale` the end of the series.
func parseTestValues(text string) ([]testValue, error) {
	var out []testValue
	for _, item := range strings.Fields(text) {
		if item == "stale" {
			out = append(out, testValue{stale: true})
			continue
		}
		more, err := parseTestItem(item)
		if err != nil {
			return nil, err
		}
		if out = append(out, more...); len(out) > maxTestValues {
			return nil, fmt.Errorf("more than %d values", maxTestValues)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no values; write them like `1 2 _ 3+1x5 stale`")
	}
	return out, nil
}

func parseTestItem(item string) ([]testValue, error) {
	if strings.HasPrefix(item, "{{") {
		return nil, fmt.Errorf("value %q: native histograms are not stored here; use the series with an `le` label", item)
	}
	m := testItem.FindStringSubmatch(item)
	if m == nil || m[1] == "" && m[2] == "" || m[3] != "" && m[4] == "" {
		return nil, fmt.Errorf("value %q: write a number, _, stale, or one of 5x3, 1+2x3, 1-2x3, _x3", item)
	}
	times := 0
	if m[4] != "" {
		n, err := strconv.Atoi(m[4])
		if err != nil || n > maxTestValues {
			return nil, fmt.Errorf("value %q: at most %d repetitions", item, maxTestValues)
		}
		times = n
	}
	if m[1] == "_" {
		if m[4] == "" {
			times = 1
		}
		out := make([]testValue, times)
		for i := range out {
			out[i].gone = true
		}
		return out, nil
	}
	value, err := strconv.ParseFloat(m[2], 64)
	step := 0.0
	if m[3] != "" && err == nil {
		step, err = strconv.ParseFloat(m[3], 64)
	}
	if err != nil {
		return nil, fmt.Errorf("value %q: %w", item, err)
	}
	out := make([]testValue, 0, times+1)
	for range times + 1 {
		out = append(out, testValue{value: value, gone: math.IsNaN(value)})
		value += step
	}
	return out, nil
}

// parseTestSeries parses the name and labels of one series: name{label="value"}, {label="value"} or nothing.
func parseTestSeries(text string) ([]series.Label, error) {
	if t := strings.TrimSpace(text); t == "" || t == "{}" {
		return nil, nil
	}
	e, err := metricsql.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("series %q: %w", text, err)
	}
	m, ok := e.(*metricsql.MetricExpr)
	if !ok || len(m.LabelFilterss) != 1 {
		return nil, fmt.Errorf(`series %q: write it as name{label="value"}`, text)
	}
	var out []series.Label
	for _, f := range m.LabelFilterss[0] {
		if f.IsNegative || f.IsRegexp {
			return nil, fmt.Errorf("series %q: label %s: a series has values, not matchers; use =", text, f.Label)
		}
		out = append(out, series.Label{Name: f.Label, Value: f.Value})
	}
	return series.Sorted(out), nil
}
