package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"bramble/alerting/rules"
	"bramble/storage"
)

// TestDefaultRulesFromTheStore runs the default rules that need a query on a real store: what each of them finds, and that
// it finds nothing on a board that is well.
func TestDefaultRulesFromTheStore(t *testing.T) {
	store, err := storage.Open(t.TempDir(), storage.Options{MemoryBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	e := rules.NewEngine(rules.Default())
	end := time.Now().Truncate(time.Minute)
	begin := end.Add(-time.Hour)
	series := map[string]func(i int) float64{ // every 10 s; "board metric label=value"
		"well pi_boot_time_seconds":                                  func(i int) float64 { return 1e9 + 3600*float64(i/300) }, // a clock is set
		"well pi_boots_total":                                        func(int) float64 { return 7 },
		"well pi_network_errors_total device=eth0":                   func(i int) float64 { return 100 + float64(i/60) },
		"well pisensor_cpu_seconds_total":                            func(i int) float64 { return 0.05 * float64(i) }, // 0.5 %
		"well bramble_reports_rejected_total reason=replayed":        func(i int) float64 { return float64(i) },
		"well bramble_readings_rejected_total reason=unknown_metric": func(i int) float64 { return float64(i) * 100 },
		"garbage bramble_reports_rejected_total reason=undecodable":  func(i int) float64 { return float64(i) },
		"broken bramble_readings_rejected_total reason=implausible":  func(i int) float64 { return float64(i) * 2 },
		"reboots pi_boots_total":                                     func(i int) float64 { return float64(i / 180) },
		"loops pi_boots_total":                                       func(i int) float64 { return float64(i / 40) },
		"errs pi_network_errors_total device=eth0":                   func(i int) float64 { return float64(i) },
		"greedy pisensor_cpu_seconds_total":                          func(i int) float64 { return 0.2 * float64(i) }, // 2 %
		"lately pi_boots_total":                                      func(i int) float64 { return float64(i / 300) },
		"lately pi_network_errors_total device=usb0":                 func(int) float64 { return 7 },
	}
	var rows []storage.Row
	for name, value := range series {
		words := strings.Fields(name)
		ls := []storage.Label{{Name: "__name__", Value: words[1]}, {Name: "board", Value: words[0]}}
		for _, w := range words[2:] {
			n, v, _ := strings.Cut(w, "=")
			ls = append(ls, storage.Label{Name: n, Value: v})
		}
		e.Series(ls, nil)
		for i := range 360 {
			rows = append(rows, storage.Row{Series: storage.SeriesOf(ls), At: begin.Add(time.Duration(i) * 10 * time.Second).UnixMilli(), Value: value(i)})
		}
	}
	if err := store.Add(rows); err != nil {
		t.Fatal(err)
	}
	if err := store.Barrier(); err != nil {
		t.Fatal(err)
	}
	states := map[string]string{}
	for at := begin.Add(31 * time.Minute); !at.After(end); at = at.Add(time.Minute) {
		ts, err := e.Evaluate(t.Context(), store, at)
		if err != nil {
			t.Fatal(err)
		}
		for _, tr := range ts {
			states[tr.Labels["alertname"]+" "+tr.Labels["board"]] += " " + tr.State.String()
		}
	}
	var got []string
	for _, k := range slices.Sorted(maps.Keys(states)) {
		got = append(got, k+":"+states[k])
	}
	want := []string{
		"BoardRebooted lately: firing", "BoardRebooted loops: firing", "BoardRebooted reboots: firing cooling inactive", "BootLoop loops: firing",
		"IngestRejects broken: firing", "IngestRejects garbage: firing", "NetworkErrors errs: firing",
		"SensorOverBudget greedy: pending firing",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}
