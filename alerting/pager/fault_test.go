package pager

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
)

// A fault in the pager's own routing is counted, the page of the alert that caused it leaves all the same, and so do the pages after
// it.
func TestFaultInRoutingLosesNoPage(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]func(*Pager){
		"link":            func(p *Pager) { p.inbox.graph = func(string) string { panic("not prepared for this") } },
		"representatives": func(p *Pager) { p.inbox.represent = nil },
		"mutes":           func(p *Pager) { p.mutes.maintenances = nil },
		"notified":        func(p *Pager) { p.inbox.notified = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSink(t, nil)
			p := startPager(t, openDB(t, t.TempDir()), oneSink(s.URL, ""), breakIt)
			fire := alerttest.Fire("b1", time.Now())
			p.Deliver([]alert.Transition{fire})
			if h := s.next(t); h.boards() != "firing b1" {
				t.Errorf("the alert that met the fault: got %s", h.boards())
			}
			reg := prometheus.NewRegistry()
			reg.MustRegister(p.metrics.faults)
			if all, err := reg.Gather(); err != nil || all[0].Metric[0].GetCounter().GetValue() == 0 {
				t.Errorf("the fault is not counted: %v", err)
			}
			p.Deliver([]alert.Transition{alerttest.Fire("b2", time.Now())})
			if h := s.next(t); h.boards() != "firing b2" {
				t.Errorf("the alert after it: got %s", h.boards())
			}
			if err := p.Barrier(); err != nil {
				t.Errorf("barrier after a fault: %v", err)
			}
		})
	}
}

// A fault while a page is recorded comes to Alertmanager as an error, which makes it try again.
func TestFaultWhileRecording(t *testing.T) {
	t.Parallel()
	p := startPager(t, openDB(t, t.TempDir()), oneSink(newSink(t, nil).URL, ""), nil)
	j := &recorder{pager: p.Pager, receiver: "hook", integrations: p.routing.Load().set.Integrations["hook"]}
	if _, err := j.Notify(t.Context(), nil); err == nil {
		t.Error("a page that could neither be recorded nor sent counts as sent")
	}
}
