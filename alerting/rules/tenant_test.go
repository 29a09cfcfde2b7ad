package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/storage/series"
)

// let is the registry's labels of a board that is let.
func let(customer string) []series.Label {
	return []series.Label{{Name: "customer", Value: customer}}
}

func said(ts []alert.Transition) string {
	var out []string
	for _, t := range ts {
		out = append(out, fmt.Sprintf("%s/%s/%s/%s", t.Customer, t.Labels["board"], t.Labels["alertname"], t.State))
	}
	return strings.Join(out, " ")
}

// hotFrom is a threshold of 60 °C that ends below 55.
func hotFrom(celsius float64) Threshold { return Threshold{Kind: "hot", Value: celsius, Hysteresis: 5} }

func TestThresholdsOfOneCustomer(t *testing.T) {
	e := NewEngine(nil)
	const soc = "pi_soc_temperature_celsius"
	mine, other, free := e.Series(labels(soc, "b1"), let("alder")), e.Series(labels(soc, "b2"), let("birch")), e.Series(labels(soc, "b3"), nil)
	forged := e.Series(labels(soc, "b4", "customer", "alder"), nil) // a board's own word
	at := int64(1000)
	observe := func(v float64) string {
		at += 1000
		var all []alert.Transition
		for i, s := range []*Series{mine, other, free, forged} {
			all = append(all, e.Observe(fmt.Sprint(i), at, []Reading{{s, v}})...)
		}
		return said(all)
	}
	f := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	f("nothing is set", observe(99), "")
	e.SetThresholds("alder", []Threshold{hotFrom(60)})
	f("below", observe(59.9), "")
	f("crossed", observe(60), "alder/b1/hot/firing")
	f("within the hysteresis", observe(55), "")
	f("over", observe(54.9), "alder/b1/hot/inactive")
	f("again within it, from below", observe(58), "")
	e.SetThresholds("birch", []Threshold{{Kind: "hot", Value: 50, For: 2 * time.Second}})
	f("pending", observe(58), "birch/b2/hot/pending")
	f("for", observe(58)+observe(58), "birch/b2/hot/firing")
	f("a board's own stands above that of all", said(e.SetThresholds("alder", []Threshold{hotFrom(40), {Kind: "hot", Board: "b1", Value: 90}})), "")
	f("58 is under it", observe(58), "")
	f("90 is not", observe(90), "alder/b1/hot/firing")
	if got := said(e.Firing()); got != "" {
		t.Errorf("the operator hears of %s", got)
	}
	f("rules reloaded", said(e.SetRules(nil)), "")
	f("and it goes on", observe(89), "alder/b1/hot/inactive")
	observe(95)
	f("taken away", said(e.SetThresholds("alder", nil)), "alder/b1/hot/inactive")
	f("gone", observe(99), "")
	f("the other's is still there", said(e.SetThresholds("birch", nil)), "birch/b2/hot/inactive")
}

// A board that goes to another customer takes neither thresholds nor alerts along.
func TestThresholdsOfAReRentedBoard(t *testing.T) {
	e := NewEngine(nil)
	const soc = "pi_soc_temperature_celsius"
	e.SetThresholds("alder", []Threshold{hotFrom(60)})
	e.SetThresholds("birch", []Threshold{hotFrom(95)})
	s := e.Series(labels(soc, "b1"), let("alder"))
	if got := said(e.Observe("b1", 1000, []Reading{{s, 70}})); got != "alder/b1/hot/firing" {
		t.Fatal(got)
	}
	e.Series(labels(soc, "b1"), let("birch"))
	owner := func(string) string { return "birch" }
	if got := said(e.EndStrayed(owner)); got != "alder/b1/hot/inactive" {
		t.Errorf("strayed: %q", got)
	}
	if got := said(e.EndStrayed(owner)); got != "" {
		t.Errorf("strayed twice: %q", got)
	}
	if got := said(e.Observe("b1", 2000, []Reading{{s, 70}})) + said(e.SetThresholds("alder", []Threshold{hotFrom(50)})) + said(e.Observe("b1", 3000, []Reading{{s, 70}})); got != "" {
		t.Errorf("the former customer's threshold looks at it: %q", got)
	}
	if got := said(e.Observe("b1", 4000, []Reading{{s, 96}})); got != "birch/b1/hot/firing" {
		t.Errorf("the new one's does not: %q", got)
	}
	e.Forget("b1")
	if len(e.tenants.series) != 0 {
		t.Errorf("series left: %v", e.tenants.series)
	}
}

// The kinds meet the series that boards have, and states survive a restart.
func TestThresholdKindsAndACheckpoint(t *testing.T) {
	set := []Threshold{{Kind: "throttled", Value: 1}, {Kind: "under_voltage", Value: 1}, {Kind: "silent"}, {Kind: "memory", Value: 64 << 20, Hysteresis: 1 << 20, KeepFiringFor: time.Second}}
	e := NewEngine(nil)
	e.SetThresholds("alder", set)
	see := func(e *Engine, at int64, bits, up, memory float64) string {
		readings := []Reading{
			{e.Series(labels("pi_throttled", "b1", "reason", "throttled"), let("alder")), bits}, {e.Series(labels("pi_throttled", "b1", "reason", "frequency_capped"), let("alder")), 1},
			{e.Series(labels("pi_throttled", "b1", "reason", "under_voltage"), let("alder")), bits}, {e.Series(labels("pi_board_up", "b1"), let("alder")), up},
			{e.Series(labels("pi_memory_available_bytes", "b1"), let("alder")), memory},
		}
		return said(e.Observe("b1", at, readings))
	}
	all := "alder/b1/throttled/firing alder/b1/under_voltage/firing alder/b1/silent/firing alder/b1/memory/firing"
	if got := see(e, 1000, 1, 0, 60<<20); got != all {
		t.Errorf("got %q", got)
	}
	b, err := e.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	again := NewEngine(nil)
	if err := again.Restore(b); err != nil {
		t.Fatal(err)
	}
	again.SetThresholds("alder", set)
	if got := said(again.SetRules(nil)); got != "" {
		t.Errorf("a restart ended %q", got)
	}
	if got := see(again, 2000, 1, 0, 64<<20); got != "" {
		t.Errorf("a restart fires again: %q", got)
	}
	want := "alder/b1/throttled/inactive alder/b1/under_voltage/inactive alder/b1/silent/inactive alder/b1/memory/cooling"
	if got := see(again, 3000, 0, 1, 65<<20); got != want {
		t.Errorf("got %q", got)
	}
	unset := NewEngine(nil)
	if err := unset.Restore(b); err != nil {
		t.Fatal(err)
	}
	ended := unset.SetRules(nil)
	if own, customers := SplitCustomers(ended); len(own) != 0 || len(customers) != 4 {
		t.Errorf("thresholds that were taken away while it was stopped: %q", said(ended))
	}
}

func TestSplitCustomers(t *testing.T) {
	a, b := alert.Transition{Rule: "a"}, alert.Transition{Rule: "b", Customer: "alder"}
	own, customers := SplitCustomers([]alert.Transition{a, b, b, a})
	if len(own) != 2 || len(customers) != 2 || slices.ContainsFunc(own, func(t alert.Transition) bool { return t.Customer != "" }) {
		t.Errorf("%v, %v", own, customers)
	}
}

// BenchmarkObserveAmongCustomers feeds BenchmarkObserve's reports beside 1,000 customers with 5 thresholds each: of a board
// that is nobody's, of one whose customer has none, and of one whose customer has all.
func BenchmarkObserveAmongCustomers(b *testing.B) {
	for _, customer := range []string{"", "quiet", "c7"} {
		b.Run("customer="+customer, func(b *testing.B) {
			var list strings.Builder
			for i := range 100 {
				fmt.Fprintf(&list, "  - {alert: A%d, expr: 'm%d{board=~\"b.*\"} > %d', for: 1m}\n", i, i%10, 100+i)
			}
			e := NewEngine(mustRules(b, list.String()))
			for i := range 1000 {
				e.SetThresholds(fmt.Sprint("c", i), []Threshold{hotFrom(90), {Kind: "throttled", Value: 1}, {Kind: "under_voltage", Value: 1}, {Kind: "silent"}, {Kind: "memory", Value: 1 << 20}})
			}
			names := []string{"pi_soc_temperature_celsius", "pi_memory_available_bytes", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "m9"}
			var rs []Reading
			for i, name := range names {
				rs = append(rs, Reading{e.Series(labels(name, "b1"), let(customer)), float64(i)})
			}
			rs[1].Value = 64 << 20
			at := int64(1)
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
}
