package rules_test

import (
	"fmt"
	"time"

	"bramble/alerting/rules"
	"bramble/storage/series"
)

// A board's temperature crosses a line, stays there for a minute, and falls below it. Each
// transition is to be journalled before anything follows from it.
func Example() {
	parsed, err := rules.Load(map[string][]byte{"heat.rules.yml": []byte(`
groups:
  - name: heat
    rules:
      - alert: Hot
        expr: pi_soc_temperature_celsius > 80
        for: 1m
        labels: {severity: critical}
        annotations: {summary: "{{ $labels.board }} is at {{ $value }} °C"}
`)})
	if err != nil {
		fmt.Println(err)
		return
	}
	engine := rules.NewEngine(parsed)
	temperature := engine.Series([]series.Label{
		{Name: "__name__", Value: "pi_soc_temperature_celsius"}, {Name: "board", Value: "r7-c-03"}, {Name: "rack", Value: "r7"},
	}, nil)
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for i, celsius := range []float64{79, 82.5, 83, 84, 78} {
		at := noon.Add(time.Duration(i) * 30 * time.Second)
		for _, t := range engine.Observe("r7-c-03", at.UnixMilli(), []rules.Reading{{Series: temperature, Value: celsius}}) {
			fmt.Println(at.Format("15:04:05"), t.State, t.Annotations["summary"])
		}
	}
	// Output:
	// 12:00:30 pending r7-c-03 is at 82.5 °C
	// 12:01:30 firing r7-c-03 is at 84 °C
	// 12:02:00 inactive r7-c-03 is at 84 °C
}

// A fault is named with its file and line.
func ExampleLoad() {
	_, err := rules.Load(map[string][]byte{"heat.rules.yml": []byte(`
groups:
  - name: heat
    rules:
      - alert: Cold
        expr: pi_soc_temperature_celsius < 0
        fro: 1m
`)})
	fmt.Println(err)
	// Output: heat.rules.yml: line 7: key "fro" is unknown
}
