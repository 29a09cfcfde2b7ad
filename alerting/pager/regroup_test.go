package pager

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/escalation"
	"bramble/alerting/incident"
)

// routed is an alertmanager.yml whose tree is given.
func routed(url, tree string, names ...string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "route: %s\nreceivers:\n- name: oncall\n", tree)
	for _, n := range names {
		fmt.Fprintf(&b, "- name: %s\n  webhook_configs: [{url: %q}]\n", n, url+"/"+n)
	}
	return []byte(b.String())
}

const times = "group_wait: 0s, group_interval: 1s, repeat_interval: 4h"

// Trees of routes to a receiver.
func byBoard(to string) string {
	return "{receiver: " + to + ", group_by: [alertname, board], " + times + "}"
}
func byAlert(to string) string { return "{receiver: " + to + ", group_by: [alertname], " + times + "}" }
func byRoute(to string) string {
	return "{receiver: " + to + ", group_by: [alertname, board], " + times + `, routes: [{matchers: ['severity="critical"'], receiver: ` + to + "}]}"
}

// happened waits until something stands so often in an incident's time line.
func (p *testPager) happened(t *testing.T, id, kind string, times int) {
	t.Helper()
	p.until(t, fmt.Sprintf("%d × %s", times, kind), func(in incident.Incident) bool {
		events, err := p.Timeline(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, e := range events {
			if e.Kind == kind {
				n++
			}
		}
		return n >= times
	})
}

func (p *testPager) reload(t *testing.T, config []byte) {
	t.Helper()
	if err := p.Reload(config); err != nil {
		t.Fatal(err)
	}
}

// openOnes returns the incidents that are open.
func (p *testPager) openOnes(t *testing.T) []incident.Incident {
	t.Helper()
	open, err := p.Incidents(t.Context(), incident.Query{Open: true})
	if err != nil {
		t.Fatal(err)
	}
	return open
}

// delivered waits until the page about a board is on record: one that is not may come again after a stop.
func (p *testPager) delivered(t *testing.T, board string) {
	t.Helper()
	p.until(t, board+" delivered", func(in incident.Incident) bool {
		return strings.HasPrefix(in.Title, board+":") && pageState("delivered")(in)
	})
}

func (s *sink) want(t *testing.T, path, what string) hook {
	t.Helper()
	h := s.next(t)
	if h.path != "/"+path || h.boards() != what {
		t.Fatalf("got %s at %s, want %s at /%s", h.boards(), h.path, what, path)
	}
	return h
}

// TestReloadEscalates: an incident whose route is another after a reload escalates on from where it was, and ends.
func TestReloadEscalates(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	people := []string{"ada-ntfy", "jonas-ntfy", "everybody"}
	p := startOnCall(t, routed(s.URL, byBoard("oncall"), people...), steps("3s", "1h"))
	f := alerttest.Fire("b1", time.Now())
	p.Deliver([]alert.Transition{f})
	s.want(t, "ada-ntfy", "firing b1")
	id := p.openOnes(t)[0].ID
	p.reload(t, routed(s.URL, byRoute("oncall"), people...))
	p.happened(t, id, "moved", 1)
	s.want(t, "jonas-ntfy", "firing b1")
	if open := p.openOnes(t); len(open) != 1 || open[0].ID != id || open[0].Escalation.State != escalation.Running {
		t.Errorf("open: %+v", open)
	}
	p.Deliver([]alert.Transition{alerttest.Resolve(f, time.Now())})
	got := map[string]bool{}
	for range 2 {
		h := s.next(t)
		got[h.path+" "+h.boards()] = true
	}
	if !got["/ada-ntfy resolved b1"] || !got["/jonas-ntfy resolved b1"] {
		t.Errorf("got %v", got)
	}
	if open := p.openOnes(t); len(open) != 0 {
		t.Errorf("open: %+v", open)
	}
	events, err := p.Timeline(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == "next" {
			t.Errorf("still to come: %+v", e)
		}
	}
}

// TestReloadOtherPeople: what goes to another policy begins there; an acknowledgement holds.
func TestReloadOtherPeople(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	two := `
people: [{name: ada, channels: [{receiver: ada-ntfy}]}, {name: jonas, channels: [{receiver: jonas-ntfy}]}]
policies:
- {name: first, receivers: [oncall], steps: [{notify: [ada], wait: 1h}]}
- {name: second, receivers: [others], steps: [{notify: [jonas], wait: 1h}]}
`
	config := func(to string) []byte {
		return append(routed(s.URL, byBoard(to), "ada-ntfy", "jonas-ntfy"), "- name: others\n"...)
	}
	p := startOnCall(t, config("oncall"), two)
	p.Deliver([]alert.Transition{alerttest.Fire("b1", time.Now())})
	s.want(t, "ada-ntfy", "firing b1")
	id := p.openOnes(t)[0].ID
	p.reload(t, config("others"))
	s.want(t, "jonas-ntfy", "firing b1")
	if err := p.Acknowledge(t.Context(), id, "jonas", ""); err != nil {
		t.Fatal(err)
	}
	p.reload(t, config("oncall"))
	p.Deliver([]alert.Transition{alerttest.Fire("b2", time.Now())})
	s.want(t, "ada-ntfy", "firing b2")
	if open := p.openOnes(t); len(open) != 2 {
		t.Errorf("open: %+v", open)
	}
}

// TestReloadGroups: incidents that share a group after a reload become one, one whose alerts part stays one, and nobody is
// paged for it.
func TestReloadGroups(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	p := startPager(t, openDB(t, t.TempDir()), routed(s.URL, byBoard("hook"), "hook"), nil)
	b1, b2 := alerttest.Fire("b1", time.Now()), alerttest.Fire("b2", time.Now())
	p.Deliver([]alert.Transition{b1})
	s.want(t, "hook", "firing b1")
	id := p.openOnes(t)[0].ID
	p.Deliver([]alert.Transition{b2})
	s.want(t, "hook", "firing b2")
	p.reload(t, routed(s.URL, byAlert("hook"), "hook"))
	p.happened(t, id, "moved", 2)
	open := p.openOnes(t)
	if len(open) != 1 || open[0].ID != id || len(open[0].Alerts) != 2 {
		t.Fatalf("in one group: %+v", open)
	}
	p.reload(t, routed(s.URL, byRoute("hook"), "hook"))
	p.happened(t, id, "moved", 4)
	if open := p.openOnes(t); len(open) != 1 || open[0].ID != id {
		t.Fatalf("parted: %+v", open)
	}
	p.Deliver([]alert.Transition{alerttest.Resolve(b1, time.Now())})
	p.happened(t, id, "ended", 1)
	p.Deliver([]alert.Transition{alerttest.Fire("b3", time.Now())})
	s.want(t, "hook", "firing b3") // and nothing before
	p.Deliver([]alert.Transition{alerttest.Resolve(b2, time.Now())})
	s.want(t, "hook", "resolved b2")
	if open := p.openOnes(t); len(open) != 1 || open[0].ID == id {
		t.Errorf("after the end: %+v", open)
	}
}

// TestReloadReceiver: another receiver is paged, and the former one hears of the end too.
func TestReloadReceiver(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	p := startPager(t, openDB(t, t.TempDir()), routed(s.URL, byBoard("hook"), "hook", "other"), nil)
	f := alerttest.Fire("b1", time.Now())
	p.Deliver([]alert.Transition{f})
	s.want(t, "hook", "firing b1")
	p.reload(t, routed(s.URL, byRoute("other"), "hook", "other"))
	s.want(t, "other", "firing b1")
	p.Deliver([]alert.Transition{alerttest.Resolve(f, time.Now())})
	got := map[string]bool{}
	for range 2 {
		h := s.next(t)
		got[h.path+" "+h.boards()] = true
	}
	if !got["/hook resolved b1"] || !got["/other resolved b1"] {
		t.Errorf("got %v", got)
	}
	if all := mustIncidents(t, p.Pager); len(all) != 1 || all[0].ResolvedAt == 0 {
		t.Errorf("incidents: %+v", all)
	}
}

// TestReloadClosed: what somebody closed while it fires does not come back with a reload, nor with a restart after it.
func TestReloadClosed(t *testing.T) {
	t.Parallel()
	s, db := newSink(t, nil), openDB(t, t.TempDir())
	p := startPager(t, db, routed(s.URL, byBoard("hook"), "hook"), nil)
	f := alerttest.Fire("b1", time.Now())
	p.Deliver([]alert.Transition{f})
	s.want(t, "hook", "firing b1")
	if err := p.CloseIncident(t.Context(), p.openOnes(t)[0].ID, "ada", "known"); err != nil {
		t.Fatal(err)
	}
	s.want(t, "hook", "resolved b1")
	p.reload(t, routed(s.URL, byRoute("hook"), "hook"))
	b2 := alerttest.Fire("b2", time.Now())
	p.Deliver([]alert.Transition{b2})
	s.want(t, "hook", "firing b2")
	p.delivered(t, "b2")
	p.stop()
	p = startPager(t, db, routed(s.URL, byBoard("hook"), "hook"), func(p *Pager) { p.Resume([]alert.Transition{f, b2}, nil) })
	b3 := alerttest.Fire("b3", time.Now())
	p.Deliver([]alert.Transition{b3})
	s.want(t, "hook", "firing b3")
	p.delivered(t, "b3")
	p.stop()
	other := strings.Replace(byRoute("hook"), "severity", "rack", 1)
	p = startPager(t, db, routed(s.URL, strings.Replace(other, "critical", "r1", 1), "hook"), func(p *Pager) { p.Resume([]alert.Transition{f, b2, b3}, nil) })
	p.happened(t, p.openOnes(t)[0].ID, "moved", 1)
	p.Deliver([]alert.Transition{alerttest.Fire("b4", time.Now())})
	s.want(t, "hook", "firing b4")
}

// TestReloadEndsUnseen: what ends before its new group tells of it ends all the same, and whoever was paged hears of it.
func TestReloadEndsUnseen(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	people := []string{"ada-ntfy", "jonas-ntfy", "everybody"}
	p := startOnCall(t, routed(s.URL, byBoard("oncall"), people...), steps("1h", "1h"))
	f := alerttest.Fire("b1", time.Now())
	p.Deliver([]alert.Transition{f})
	s.want(t, "ada-ntfy", "firing b1")
	p.reload(t, routed(s.URL, strings.Replace(byRoute("oncall"), "group_wait: 0s", "group_wait: 1h", 1), people...))
	p.Deliver([]alert.Transition{alerttest.Resolve(f, time.Now())})
	p.takeIn()
	if err := p.closeOrphans(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	s.want(t, "ada-ntfy", "resolved b1")
	all := mustIncidents(t, p.Pager)
	if len(all) != 1 || all[0].ResolvedAt == 0 || all[0].Escalation.State != escalation.Over || all[0].Escalation.NextAt != 0 {
		t.Errorf("incidents: %+v", all)
	}
}
