package main

import (
	"fmt"
	"testing"
	"time"

	"bramble/alerting/rules"
	"bramble/storage"
)

// TestCrossings finds in a real store which boards crossed a line, whether or not an alert came of it.
func TestCrossings(t *testing.T) {
	store, err := storage.Open(t.TempDir(), storage.Options{MemoryBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	loaded, err := rules.Load(map[string][]byte{"r.yml": []byte(`groups:
- name: g
  rules:
  - {alert: Hot, expr: pi_soc_temperature_celsius >= 80}
  - {alert: HotInRack1, expr: 'pi_soc_temperature_celsius{rack="r1"} > 82'}
  - {alert: Low, expr: pi_memory_available_bytes < 100}
  - {alert: Throttled, expr: 'pi_throttled{reason="throttled"} == 1'}
  - {alert: HotTwice, expr: pi_soc_temperature_celsius >= 80, for: 1ms}
  - {alert: LowTwice, expr: pi_memory_available_bytes < 100, for: 1ms}
  - {alert: Lasting, expr: pi_soc_temperature_celsius >= 70, for: 1m}
  - {alert: Gone, expr: pi_board_up == 0, labels: {pages: domains}}
`)})
	if err != nil {
		t.Fatal(err)
	}
	to := time.Now().Truncate(time.Minute)
	var rows []storage.Row
	add := func(metric, board, label, value string, ago time.Duration, v float64) {
		ls := []storage.Label{{Name: "__name__", Value: metric}, {Name: "board", Value: board}, {Name: label, Value: value}}
		rows = append(rows, storage.Row{Series: storage.SeriesOf(ls), At: to.Add(-ago).UnixMilli(), Value: v})
	}
	const heat = "pi_soc_temperature_celsius"
	add(heat, "spike", "rack", "r1", 3*time.Hour, 84.5)
	add(heat, "spike", "rack", "r1", time.Hour, 60)
	add(heat, "line", "rack", "r1", time.Hour, 80)
	add(heat, "elsewhere", "rack", "r2", time.Hour, 83)
	add(heat, "cool", "rack", "r1", time.Hour, 79.9)
	add(heat, "hot", "rack", "r2", time.Hour, 80)
	add(heat, "hot", "rack", "r2", time.Hour-time.Second, 80)
	add("pi_memory_available_bytes", "hot", "rack", "r2", time.Hour, 99)
	add("pi_memory_available_bytes", "hot", "rack", "r2", time.Hour-time.Second, 98)
	add("pi_memory_available_bytes", "line", "rack", "r2", time.Hour, 99)
	add("pi_memory_available_bytes", "line", "rack", "r2", time.Hour-time.Second, 100)
	add(heat, "longago", "rack", "r1", 25*time.Hour, 90)
	add("pi_memory_available_bytes", "spike", "rack", "r1", time.Hour, 99)
	add("pi_throttled", "spike", "reason", "throttled", time.Hour, 1)
	add("pi_throttled", "cool", "reason", "under_voltage", time.Hour, 1)
	add("pi_throttled", "line", "reason", "throttled", time.Hour, 0)
	add("pi_board_up", "spike", "rack", "r1", time.Hour, 0)
	if err := store.Add(rows); err != nil {
		t.Fatal(err)
	}
	found, err := rules.NewEngine(loaded).Crossings(t.Context(), store, to.Add(-24*time.Hour), to)
	if err != nil {
		t.Fatal(err)
	}
	want := "[{Hot elsewhere 83} {Hot hot 80} {Hot line 80} {Hot spike 84.5} {HotInRack1 spike 84.5} {HotTwice hot 80} " +
		"{Low hot 98} {Low line 99} {Low spike 99} {LowTwice hot 98} {Throttled spike 1}]"
	if got := fmt.Sprint(found); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
