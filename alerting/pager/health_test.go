package pager

import (
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/incident"
)

// gathered returns the gauges of a registry, by name and label values.
func gathered(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range []string{"receiver", "integration"} {
				for _, pair := range m.GetLabel() {
					if pair.GetName() == l {
						name += " " + pair.GetValue()
					}
				}
			}
			all[name] = m.GetGauge().GetValue()
		}
	}
	return all
}

// TestReceiverFails looks at the metric while a provider refuses, takes, and is taken out of the configuration.
func TestReceiverFails(t *testing.T) {
	sink := newSink(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			http.Error(w, "come back later", http.StatusServiceUnavailable)
		}
	})
	reg := prometheus.NewRegistry()
	p := startPager(t, openDB(t, t.TempDir()), oneSink(sink.URL, ""), func(p *Pager) { reg.MustRegister(p.metrics.health) })
	check := func(when string, want float64) {
		t.Helper()
		if got, ok := gathered(t, reg)["bramble_receiver_failing hook webhook"]; got != want || !ok {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	p.Deliver([]alert.Transition{alerttest.Fire("b1", time.Now())})
	p.until(t, "refused", func(in incident.Incident) bool { return len(in.Pages) > 0 && in.Pages[0].Attempts == 1 })
	check("refused", 1)
	p.until(t, "delivered", pageState("delivered"))
	check("delivered", 0)
	p.metrics.health.note("hook", "webhook", true)
	check("failed again", 1)
	if err := p.Reload(nil); err != nil {
		t.Fatal(err)
	}
	check("taken out of the configuration", 0)
}

// A fault that was caught is counted.
func TestGuardCountsFaults(t *testing.T) {
	reg := prometheus.NewRegistry()
	p := runPager(t, Options{DB: openDB(t, t.TempDir()), Registerer: reg})
	if p.Guard("a test", func() { panic("not prepared for this") }) || !p.Guard("a test", func() {}) {
		t.Error("a fault counts as the end, or the end as a fault")
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "bramble_alerting_panics_total" && f.Metric[0].GetCounter().GetValue() == 1 {
			return
		}
	}
	t.Error("the fault is not counted")
}
