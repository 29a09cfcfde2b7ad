package pager

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/escalation"
	"bramble/alerting/incident"
	"bramble/alerting/receivers"
)

// creep begins a failure of switch r1-a that takes one board after the other: the pages of two of them, then the switch's.
func creep(t *testing.T, d *stage, s *sink, at string, places map[string]alert.Place) (hot []alert.Transition) {
	t.Helper()
	for i, b := range alerttest.BoardsIn(places, "r1-a")[:3] {
		hot = append(hot, alerttest.Hot(places, b, time.Now()))
		if err := d.commit(hot[i:]); err != nil {
			t.Fatal(err)
		}
		want := "firing SocHot " + b
		if i == 2 {
			want = "firing SocHot switch r1-a"
		}
		if got := s.next(t); got.said() != want || got.path != at {
			t.Fatalf("page %d: %s at %s, want %s", i, got.said(), got.path, want)
		}
	}
	return hot
}

// about returns the incident that is about a board or a switch.
func (p *testPager) about(t *testing.T, what string) incident.Incident {
	t.Helper()
	for _, in := range mustIncidents(t, p.Pager) {
		if strings.HasPrefix(in.Title, what) {
			return in
		}
	}
	t.Fatalf("no incident about %s", what)
	return incident.Incident{}
}

// TestCreepingFailure: 48 boards of a switch fail one after the other, each looked at before the next. A person gets three
// messages, the pages of two boards and that of the switch, and one about the end; one escalation runs.
func TestCreepingFailure(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	places := alerttest.Fleet(2, 1, 48, nil)
	people := []string{"ada-ntfy", "jonas-ntfy", "everybody"}
	d := startStage(t, openDB(t, t.TempDir()), routed(s.URL, byBoard("everybody"), people...), places, nil)
	if err := d.pager.ReloadWithOnCall(routed(s.URL, byBoard("oncall"), people...), []byte(steps("1h", "2h"))); err != nil {
		t.Fatal(err)
	}
	hot := creep(t, d, s, "/ada-ntfy", places)
	for _, b := range alerttest.BoardsIn(places, "r1-a")[3:] {
		hot = append(hot, alerttest.Hot(places, b, time.Now()))
		if err := d.commit(hot[len(hot)-1:]); err != nil {
			t.Fatal(err)
		}
	}
	for d.suppressed(t) < 48 {
		<-time.After(10 * time.Millisecond)
	}
	for _, b := range []string{"r1-a-01", "r1-a-02"} {
		in := d.pager.about(t, b)
		if in.ResolvedAt == 0 || in.Escalation.State != escalation.Over || in.Escalation.NextAt != 0 {
			t.Errorf("incident of %s goes on: %+v", b, in)
		}
	}
	// An hour later the second step of all that escalates is due.
	if _, err := d.pager.db.ExecContext(t.Context(), `UPDATE escalation_step SET due_at = ? WHERE state = 'pending'`, time.Now().UnixMilli()); err != nil {
		t.Fatal(err)
	}
	d.pager.escalation.Signal()
	if got := s.next(t); got.said() != "firing SocHot switch r1-a" || got.path != "/jonas-ntfy" {
		t.Errorf("second step: %s at %s", got.said(), got.path)
	}
	in := d.pager.about(t, "Switch r1-a")
	if err := d.pager.Acknowledge(t.Context(), in.ID, "jonas", ""); err != nil {
		t.Fatal(err)
	}
	for _, f := range hot {
		if err := d.commit([]alert.Transition{alerttest.Resolve(f, time.Now())}); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.next(t); got.said() != "resolved SocHot switch r1-a" || got.path != "/jonas-ntfy" {
		t.Errorf("end: %s at %s", got.said(), got.path)
	}
	d.pager.until(t, "over", func(o incident.Incident) bool { return o.ID == in.ID && o.ResolvedAt != 0 })
	got := map[string]int{}
	for _, in := range mustIncidents(t, d.pager.Pager) {
		for _, pg := range in.Pages {
			got[pg.Person+" "+pg.About]++
		}
	}
	want := map[string]int{"ada page": 3, "ada resolve": 1, "jonas page": 1, "jonas resolve": 1}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("messages: %v, want %v", got, want)
	}
}

// TestTakenOver: the switch's page says which incidents are part of it and who has them; a route's receiver hears the end of
// each, and a board that is left alone when the switch is well is its own incident again, as acknowledged as it was.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	places := alerttest.Fleet(2, 1, 48, nil)
	db := openDB(t, t.TempDir())
	d := startStage(t, db, theirs(s.URL), places, nil)
	began := time.Now()
	first := alerttest.Hot(places, "r1-a-01", began)
	if err := d.commit([]alert.Transition{first}); err != nil {
		t.Fatal(err)
	}
	if got := s.next(t); got.said() != "firing SocHot r1-a-01" {
		t.Fatalf("page: %s", got.said())
	}
	if err := d.pager.Acknowledge(t.Context(), d.pager.about(t, "r1-a-01").ID, "ada", "the fan"); err != nil {
		t.Fatal(err)
	}
	second := alerttest.Hot(places, "r1-a-02", began)
	if err := d.commit([]alert.Transition{second}); err != nil {
		t.Fatal(err)
	}
	if got := s.next(t); got.said() != "firing SocHot r1-a-02" {
		t.Fatalf("page: %s", got.said())
	}
	third := alerttest.Hot(places, "r1-a-03", began)
	if err := d.commit([]alert.Transition{third}); err != nil {
		t.Fatal(err)
	}
	page := s.next(t)
	if page.said() != "firing SocHot switch r1-a" {
		t.Fatalf("page: %s", page.said())
	}
	in := d.pager.until(t, "delivered", func(in incident.Incident) bool {
		return strings.HasPrefix(in.Title, "Switch r1-a") && len(in.Pages) == 1 && in.Pages[0].State == "delivered"
	})
	part := fmt.Sprintf(" Incidents #%d (acknowledged by ada) and #%d are part of it.", d.pager.about(t, "r1-a-01").Number, d.pager.about(t, "r1-a-02").Number)
	if why := page.Alerts[0].Annotations[receivers.PageReason]; !strings.HasSuffix(why, part) {
		t.Errorf("reason: %s, want at its end %q", why, part)
	}
	events, err := d.pager.Timeline(t.Context(), d.pager.about(t, "r1-a-01").ID)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(events, func(e incident.Event) bool {
		return strings.HasSuffix(e.Text, fmt.Sprintf("goes on in incident #%d", in.Number))
	}) {
		t.Errorf("it does not say where it goes on: %+v", events)
	}
	if in.Ack != nil {
		t.Errorf("the switch is acknowledged: %+v", in.Ack)
	}
	if err := d.pager.Acknowledge(t.Context(), d.pager.about(t, "r1-a-01").ID, "ada", ""); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("goes on in incident #%d", in.Number)) {
		t.Errorf("acknowledge what was taken over: %v; %d", err, in.Number)
	}
	d.stop() // what was taken over stays so
	d = startStage(t, db, theirs(s.URL), places, d.engine.Firing())
	whole := slices.IndexFunc(d.engine.Firing(), func(tr alert.Transition) bool { return alert.IsDomainRule(tr.Rule) })
	over := []alert.Transition{alerttest.Resolve(second, time.Now()), alerttest.Resolve(third, time.Now()), alerttest.Resolve(d.engine.Firing()[whole], time.Now())}
	d.engine.Apply(over[0])
	d.pager.Deliver(over)
	got := map[string]bool{}
	for range 3 {
		got[s.next(t).said()] = true
	}
	for _, want := range []string{"resolved SocHot switch r1-a", "resolved SocHot r1-a-02", "firing SocHot r1-a-01"} {
		if !got[want] {
			t.Errorf("got %v, want %s", got, want)
		}
	}
	again := d.pager.about(t, "r1-a-01")
	if again.ResolvedAt != 0 || again.Ack == nil || again.Ack.By != "ada" {
		t.Errorf("left alone: %+v", again)
	}
	d.pager.Deliver([]alert.Transition{alerttest.Resolve(first, time.Now())})
	if got := s.next(t); got.said() != "resolved SocHot r1-a-01" {
		t.Errorf("end: %s", got.said())
	}
	s.none(t, "after the end")
}

// TestTheEndOfAMergedIncidentIsNotifiedOnce: an incident that took another over opens again for another switch, and its second end is not
// that of what it took over.
func TestTheEndOfAMergedIncidentIsNotifiedOnce(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	places := alerttest.Fleet(2, 1, 48, nil)
	d := startStage(t, openDB(t, t.TempDir()), theirs(s.URL), places, nil)
	began := time.Now()
	commit := func(ts ...alert.Transition) {
		t.Helper()
		if err := d.commit(ts); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want ...string) {
		t.Helper()
		var got []string
		for range want {
			got = append(got, s.next(t).said())
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Fatalf("pages: %q, want %q", got, want)
		}
	}
	over := func(ts ...alert.Transition) {
		t.Helper()
		for i := range ts {
			ts[i] = alerttest.Resolve(ts[i], time.Now())
		}
		commit(ts...)
	}
	one, two, three := alerttest.Hot(places, "r1-a-01", began), alerttest.Hot(places, "r1-a-02", began), alerttest.Hot(places, "r1-a-03", began)
	commit(one)
	expect("firing SocHot r1-a-01")
	commit(two, three)
	expect("firing SocHot switch r1-a")
	over(one, two, three)
	expect("resolved SocHot r1-a-01", "resolved SocHot switch r1-a")
	began = time.Now()
	one, two, three = alerttest.Hot(places, "r2-a-01", began), alerttest.Hot(places, "r2-a-02", began), alerttest.Hot(places, "r2-a-03", began)
	commit(one, two, three)
	expect("firing SocHot switch r2-a")
	over(one, two, three)
	expect("resolved SocHot switch r2-a")
	all, err := d.pager.Incidents(t.Context(), incident.Query{})
	if err != nil || len(all) != 2 {
		t.Fatalf("incidents: %+v, %v", all, err)
	}
	for _, in := range all {
		whole, err := d.pager.Incident(t.Context(), in.ID)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{false: 5, true: 1}[strings.Contains(whole.Alerts[0].Labels["board"], "r1-a-01")]; len(whole.Pages) != want {
			t.Errorf("%q has %d pages, want %d: %+v", whole.Title, len(whole.Pages), want, whole.Pages)
		}
	}
	s.none(t, "after the end")
}

// partly is routes by alert to one receiver, but for a board.
func partly(board, to string) string {
	return "{receiver: oncall, group_by: [alertname], " + times + `, routes: [{matchers: ['board="` + board + `"'], receiver: ` + to + "}]}"
}

// inOnePage makes the first page wait for all that is delivered with it: the dispatcher may hear of one alert before another.
func inOnePage(tree string) string {
	return strings.Replace(tree, "group_wait: 0s", "group_wait: 1s", 1)
}

// TestReloadParts: of an incident with two boards one is led to other people. They hear of it, nobody else hears of
// anything; each end reaches whoever was paged for it.
func TestReloadParts(t *testing.T) {
	t.Parallel()
	names := []string{"ada-ntfy", "jonas-ntfy", "third-ntfy", "hook"}
	two := `
people: [{name: ada, channels: [{receiver: ada-ntfy}]}, {name: jonas, channels: [{receiver: jonas-ntfy}]}, {name: mira, channels: [{receiver: third-ntfy}]}]
policies:
- {name: first, receivers: [oncall], steps: [{notify: [ada], wait: 1h}, {notify: [mira], wait: 1h}]}
- {name: second, receivers: [others], steps: [{notify: [jonas], wait: 1h}]}
`
	f := func(name, to string, ack bool, afterReload []string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSink(t, nil)
			config := func(tree string) []byte { return append(routed(s.URL, tree, names...), "- name: others\n"...) }
			p := startOnCall(t, config(inOnePage(byAlert("oncall"))), two)
			b1, b2 := alerttest.Fire("b1", time.Now()), alerttest.Fire("b2", time.Now())
			p.Deliver([]alert.Transition{b1, b2})
			s.want(t, "ada-ntfy", "firing b1, firing b2")
			id := p.openOnes(t)[0].ID
			if ack {
				if err := p.Acknowledge(t.Context(), id, "ada", "on it"); err != nil {
					t.Fatal(err)
				}
			}
			p.reload(t, config(partly("b2", to)))
			p.happened(t, id, "moved", 1)
			for _, want := range afterReload {
				s.want(t, want, "firing b2")
			}
			if !ack { // the former people's further pages say what is theirs
				if _, err := p.db.ExecContext(t.Context(), `UPDATE escalation_step SET due_at = ? WHERE incident = ? AND state = 'pending'`, time.Now().UnixMilli(), id); err != nil {
					t.Fatal(err)
				}
				p.escalation.Signal()
				s.want(t, "third-ntfy", "firing b1")
			}
			open := p.openOnes(t)
			if len(open) != 2 {
				t.Fatalf("open: %+v", open)
			}
			for _, in := range open {
				if (in.Ack != nil) != ack {
					t.Errorf("incident #%d: acknowledged %+v", in.Number, in.Ack)
				}
			}
			p.Deliver([]alert.Transition{alerttest.Resolve(b2, time.Now())})
			want := map[string]bool{"/ada-ntfy resolved b2": true}
			for _, a := range afterReload {
				want["/"+a+" resolved b2"] = true
			}
			got := map[string]bool{}
			for range want {
				h := s.next(t)
				got[h.path+" "+h.boards()] = true
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("end of b2: %v, want %v", got, want)
			}
			p.Deliver([]alert.Transition{alerttest.Resolve(b1, time.Now())})
			p.until(t, "over", func(in incident.Incident) bool { return in.ID == id && in.ResolvedAt != 0 })
			ends := map[string]int{} // a third message within a minute waits
			in, err := p.Incident(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			for _, pg := range in.Pages {
				if pg.About == "resolve" {
					ends[pg.Person]++
				}
			}
			if wantEnds := map[bool]string{true: "map[ada:1]", false: "map[ada:1 mira:1]"}[ack]; fmt.Sprint(ends) != wantEnds {
				t.Errorf("end of b1: %v, want %s", ends, wantEnds)
			}
		})
	}
	f("other people", "others", false, []string{"jonas-ntfy"})
	f("acknowledged", "others", true, nil)
	f("a receiver", "hook", false, []string{"hook"})
	f("a receiver, acknowledged", "hook", true, []string{"hook"})
}

// TestReloadPartsSame: where the receiver stays, the incident stays one.
func TestReloadPartsSame(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	p := startPager(t, openDB(t, t.TempDir()), routed(s.URL, inOnePage(byAlert("hook")), "hook"), nil)
	b1, b2 := alerttest.Fire("b1", time.Now()), alerttest.Fire("b2", time.Now())
	p.Deliver([]alert.Transition{b1, b2})
	s.want(t, "hook", "firing b1, firing b2")
	id := p.openOnes(t)[0].ID
	p.reload(t, routed(s.URL, strings.Replace(partly("b2", "hook"), "oncall", "hook", 1), "hook"))
	p.happened(t, id, "moved", 1)
	if open := p.openOnes(t); len(open) != 1 || open[0].ID != id {
		t.Errorf("open: %+v", open)
	}
	p.Deliver([]alert.Transition{alerttest.Resolve(b1, time.Now()), alerttest.Resolve(b2, time.Now())})
	p.until(t, "over", func(in incident.Incident) bool { return in.ID == id && in.ResolvedAt != 0 })
}

// TestReloadThereAndBack: what was led to another receiver and is led back is one incident again, pages nobody, and its end
// reaches both.
func TestReloadThereAndBack(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	p := startPager(t, openDB(t, t.TempDir()), routed(s.URL, inOnePage(byAlert("hook")), "hook", "other"), nil)
	b1, b2 := alerttest.Fire("b1", time.Now()), alerttest.Fire("b2", time.Now())
	p.Deliver([]alert.Transition{b1, b2})
	s.want(t, "hook", "firing b1, firing b2")
	id := p.openOnes(t)[0].ID
	p.reload(t, routed(s.URL, strings.Replace(partly("b2", "other"), "oncall", "hook", 1), "hook", "other"))
	s.want(t, "other", "firing b2")
	p.reload(t, routed(s.URL, byAlert("hook"), "hook", "other"))
	p.happened(t, id, "moved", 2)
	if open := p.openOnes(t); len(open) != 1 || open[0].ID != id || len(open[0].Alerts) != 2 {
		t.Errorf("open: %+v", open)
	}
	p.Deliver([]alert.Transition{alerttest.Resolve(b1, time.Now()), alerttest.Resolve(b2, time.Now())})
	ended := map[string]bool{}
	for !ended["/hook b1"] || !ended["/hook b2"] || !ended["/other b2"] {
		h := s.next(t)
		for _, a := range h.Alerts {
			if a.Status == "resolved" {
				ended[h.path+" "+a.Labels["board"]] = true
			}
		}
		if strings.Contains(h.boards(), "firing b2") && !strings.Contains(h.boards(), "resolved b1") {
			t.Errorf("paged again: %s at %s", h.boards(), h.path)
		}
	}
}
