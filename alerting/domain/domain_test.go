package domain

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/rules"
)

func TestExplain(t *testing.T) {
	small := alerttest.Fleet(3, 2, 4, nil)
	large := alerttest.Fleet(2, 8, 48, func(board string, l map[string]string) {
		l["site"] = "east"
		l["nfs"] = "n" + string(board[len(board)-1]%2+'1') // odd and even ports
	})
	one := alerttest.Fleet(1, 1, 8, nil)
	f := func(name string, places map[string]alert.Place, majority bool, fired, other []string, want ...string) {
		t.Helper()
		b := burst{fired: map[string]bool{}, other: map[string]bool{}, majority: majority}
		for _, board := range fired {
			b.fired[board] = true
		}
		for _, board := range other {
			b.other[board] = true
		}
		f := indexFleet(places)
		var got []string
		for _, x := range f.explain(b) {
			got = append(got, fmt.Sprintf("%s %d/%d", f.domains[x.domain], x.boards, x.among))
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	in := func(prefixes ...string) []string { return alerttest.BoardsIn(small, prefixes...) }
	big := func(prefixes ...string) []string { return alerttest.BoardsIn(large, prefixes...) }
	f("one switch", small, true, in("r1-a"), nil, "switch r1-a 4/4")
	f("one switch and a customer elsewhere", small, true, in("r1-a", "r3-b-02"), nil, "switch r1-a 4/4")
	f("one switch and a customer on the next", small, true, in("r1-a", "r1-b-02"), nil, "switch r1-a 4/4")
	f("most of a switch", small, true, in("r1-a-01", "r1-a-02", "r1-a-03"), nil, "switch r1-a 3/4")
	f("half of a switch is customers", small, true, in("r1-a-01", "r1-a-02"), nil)
	f("both switches of a rack", small, true, in("r1"), nil, "rack r1 8/8")
	f("switches of two racks", small, true, in("r1-a", "r2-b"), nil, "switch r1-a 4/4", "switch r2-b 4/4")
	f("two racks", small, true, in("r1", "r2"), nil, "rack r1 8/8", "rack r2 8/8")
	f("everybody", small, true, in("r"), nil, "collector 24/24")
	f("everybody on one switch", one, true, alerttest.BoardsIn(one, "r"), nil, "switch r1-a 8/8")
	f("the rest of a switch whose customers are off for long", small, true, in("r1-a-01", "r1-a-02", "r1-a-03"), in("r1-a-04"), "switch r1-a 3/3")
	f("two more join many that are off", small, true, in("r1-a-03"), in("r1-a-01", "r1-a-02"))
	f("two left", small, true, in("r1-a-03", "r1-a-04"), in("r1-a-01", "r1-a-02"), "switch r1-a 2/2")
	f("three hot in a rack", small, false, in("r1-a-01", "r1-a-02", "r1-b-03"), nil, "rack r1 3/8")
	f("three hot in three racks", small, false, in("r1-a-01", "r2-a-02", "r3-b-03"), nil)
	f("two hot", small, false, in("r1-a-01", "r1-a-02"), nil)
	f("hot everywhere is two racks", small, false, in("r1", "r2"), nil, "rack r1 8/8", "rack r2 8/8")
	f("large: a switch", large, true, big("r1-c"), nil, "switch r1-c 48/48")
	f("large: three silent on a switch are customers", large, true, big("r1-c-01", "r1-c-11", "r1-c-21"), nil)
	f("large: three hot on a switch", large, false, big("r1-c-01", "r1-c-11", "r1-c-21"), nil, "switch r1-c 3/48")
	f("large: a rack", large, true, big("r2"), nil, "rack r2 384/384")
	f("large: the site is all that there is", large, true, big("r"), nil, "collector 768/768")
	var odd []string
	for _, b := range big("r") {
		if (b[len(b)-1]-'0')%2 == 1 {
			odd = append(odd, b)
		}
	}
	f("large: an NFS server", large, true, odd, nil, "NFS server n2 384/384")
	f("large: nobody", large, true, nil, nil)
	unlabelled := map[string]alert.Place{"b1": {Watched: true}, "b2": {Watched: true}, "b3": {Watched: true}, "b4": {}}
	f("boards without a place", unlabelled, true, []string{"b1", "b2"}, nil)
	f("all boards without a place; who said goodbye does not count", unlabelled, true, []string{"b1", "b2", "b3"}, nil, "collector 3/3")
	f("a board that the registry does not know", small, true, []string{"stranger"}, nil)
	reused := map[string]alert.Place{}
	for _, b := range []string{"x1", "x2", "x3", "y1", "y2", "y3"} {
		reused[b] = alert.Place{Labels: map[string]string{"rack": b[:1], "switch": "1"}, Watched: true}
	}
	reused["z"] = alert.Place{Watched: true}
	f("switches of two racks share a name", reused, true, []string{"x1", "x2", "x3"}, nil, "switch 1 3/3")
}

// theatre runs the state machine with an event list: a committed transition comes back at once, unless it is lost.
type theatre struct {
	t      *testing.T
	s      *state
	f      *fleetIndex
	now    time.Time
	log    []string
	passed []alert.Transition
	open   bool            // the journal takes nothing
	hush   map[string]bool // boards whose alerts are silenced
}

func newTheatre(t *testing.T, places map[string]alert.Place) *theatre {
	return &theatre{t: t, s: newState(), f: indexFleet(places), now: time.Date(2026, 11, 24, 18, 0, 0, 0, time.UTC)}
}

func (h *theatre) note(fx effects) {
	for _, p := range fx.pass {
		who := p.Labels[alert.BoardLabel]
		if d, ok := alert.DomainOf(&p); ok {
			who = d.String()
		}
		h.log = append(h.log, fmt.Sprintf("%s %s", who, p.State))
		h.passed = append(h.passed, p)
	}
	if len(fx.commit) == 0 || h.open {
		return
	}
	var back effects
	for _, c := range fx.commit {
		h.s.take(&back, c, h.now, h.f)
	}
	h.note(back)
}

func (h *theatre) take(ts ...alert.Transition) {
	var fx effects
	for _, t := range ts {
		h.s.take(&fx, t, h.now, h.f)
	}
	h.note(fx)
}

// until decides as the stage would, up to a time.
func (h *theatre) until(d time.Duration) {
	for end := h.now.Add(d); ; {
		var fx effects
		h.s.decide(&fx, h.now, h.f, func(t *alert.Transition) bool { return h.hush[t.Labels[alert.BoardLabel]] })
		h.note(fx)
		at, ok := h.s.next(h.now)
		if !ok || at.After(end) {
			h.now = end
			return
		}
		h.now = later(h.now.Add(time.Millisecond), at)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// silent is the alert of a board that fell silent now.
func (h *theatre) silent(board string, notes ...string) alert.Transition {
	return alerttest.Silent(h.f.places, board, h.now, notes...)
}

func (h *theatre) hot(board string) alert.Transition { return alerttest.Hot(h.f.places, board, h.now) }

func (h *theatre) over(t alert.Transition) alert.Transition { return alerttest.Resolve(t, h.now) }

func (h *theatre) each(boards []string, one func(string) alert.Transition) (out []alert.Transition) {
	for _, b := range boards {
		out = append(out, one(b))
	}
	return out
}

func (h *theatre) want(log ...string) {
	h.t.Helper()
	if diff := cmp.Diff(log, h.log); diff != "" {
		h.t.Errorf("handed on (-want +got):\n%s", diff)
	}
	h.log = nil
}

func quiet(board string, h *theatre) alert.Transition { return h.silent(board) }

func TestSwitchIsOneAlertAndItsBoardsFollow(t *testing.T) {
	places := alerttest.Fleet(3, 2, 4, nil)
	h := newTheatre(t, places)
	h.f.places = places
	from := h.now.Add(-31 * time.Second)
	var gone []alert.Transition
	for i, b := range alerttest.BoardsIn(places, "r1-a") {
		gone = append(gone, h.silent(b, alert.LastReportNote, from.Add(time.Duration(i)*1400*time.Millisecond/3).Format(alert.NoteTime), alert.ProbeNote, alert.ProbeSilence))
	}
	h.take(gone...)
	h.want()
	h.until(time.Second)
	h.want("switch r1-a firing", "r1-a-01 firing", "r1-a-02 firing", "r1-a-03 firing", "r1-a-04 firing")
	d := h.passed[0]
	if diff := cmp.Diff(map[string]string{
		"alertname": "BoardSilent", "severity": "critical", "pages": "domains", "domain": "switch", "switch": "r1-a", "rack": "r1",
	}, d.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{
		"what": "silent", "last_report": "2026-11-24T17:59:29.000Z", "summary": "Switch r1-a (rack r1): 4 of 4 boards silent", "runbook": "domain",
		"reason": "4 of 4 boards of switch r1-a; their last reports came within 1.4 s, up to 17:59:30 UTC. Switch r1-b of rack r1 reports. None of 4 addresses asked answers.",
	}, d.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if !slices.Equal(d.Boards, alerttest.BoardsIn(places, "r1-a")) {
		t.Errorf("boards %v", d.Boards)
	}
	h.until(time.Minute)
	h.want()
	for i, g := range gone {
		h.take(h.over(g))
		h.until(20 * time.Second)
		want := []string{g.Labels["board"] + " inactive"}
		if i == 3 {
			want = append(want, "switch r1-a inactive")
		}
		h.want(want...)
	}
	h.take(h.silent("r1-a-01"))
	h.until(time.Second)
	h.want("r1-a-01 firing") // alone again
}

func TestLoneBoardsAreHandedOn(t *testing.T) {
	places := alerttest.Fleet(3, 2, 4, nil)
	places["own"] = alert.Place{Watched: true}
	h := newTheatre(t, places)
	h.take(h.hot("own"))
	h.want("own firing") // it shares nothing with anybody: no wait
	a := h.silent("r1-a-01")
	h.take(a)
	h.until(400 * time.Millisecond)
	h.want()
	h.take(h.over(a)) // a spike keeps its order
	h.until(200 * time.Millisecond)
	h.want("r1-a-01 firing", "r1-a-01 inactive")
	api := alert.Transition{Rule: "r", State: alert.Firing, Labels: map[string]string{"alertname": "Disk"}}
	h.take(api)
	h.want(" firing")
}

func TestRackHeatsUp(t *testing.T) {
	places := alerttest.Fleet(2, 2, 12, nil)
	h := newTheatre(t, places)
	for _, b := range []string{"r1-a-01", "r1-a-05"} {
		h.take(h.hot(b))
		h.until(20 * time.Second)
		h.want(b + " firing")
	}
	h.take(h.hot("r1-b-03"))
	h.until(20 * time.Second)
	h.want("rack r1 firing", "r1-b-03 firing")
	d := h.passed[2]
	if got, want := d.Annotations["summary"], "Rack r1: 3 of 24 boards at 80 °C or more"; got != want {
		t.Errorf("summary %q, want %q", got, want)
	}
	if got, want := d.Annotations["reason"], "3 of 24 boards of rack r1 within 40 s, up to 18:00:40 UTC. Rack r2 is not affected."; got != want {
		t.Errorf("reason %q, want %q", got, want)
	}
	h.take(h.hot("r1-b-07"), h.hot("r2-a-01"))
	h.want("r1-b-07 firing") // it joins at once
	h.until(7 * time.Second)
	h.want("rack r1 firing", "r2-a-01 firing")
	if got := h.passed[len(h.passed)-2]; len(got.Boards) != 4 || got.FiredAt != d.FiredAt || got.Annotations["summary"] != "Rack r1: 4 of 24 boards at 80 °C or more" {
		t.Errorf("the rack's alert became %+v", got)
	}
}

func TestSwitchGrowsToItsRack(t *testing.T) {
	places := alerttest.Fleet(3, 2, 4, nil)
	h := newTheatre(t, places)
	h.take(h.each(alerttest.BoardsIn(places, "r1-a"), func(b string) alert.Transition { return quiet(b, h) })...)
	h.until(time.Minute)
	h.take(h.each(alerttest.BoardsIn(places, "r1-b"), func(b string) alert.Transition { return quiet(b, h) })...)
	h.until(time.Second)
	if !slices.Contains(h.log, "rack r1 firing") || slices.Contains(h.log, "switch r1-b firing") {
		t.Errorf("handed on %q", h.log)
	}
}

// TestFewStayBehind: a switch that is back is over, also where a board or two do not come back.
func TestFewStayBehind(t *testing.T) {
	places := alerttest.Fleet(2, 1, 20, nil)
	h := newTheatre(t, places)
	gone := h.each(alerttest.BoardsIn(places, "r1"), func(b string) alert.Transition { return quiet(b, h) })
	h.take(gone...)
	h.until(time.Minute)
	h.log = nil
	for _, g := range gone[2:] {
		h.take(h.over(g))
	}
	h.log = nil
	h.until(110 * time.Second)
	h.want()
	h.until(20 * time.Second)
	h.want("switch r1-a inactive")
	if got, want := h.passed[len(h.passed)-1].Annotations["reason"], "Over for 18 of 20 boards; not for r1-a-01 and r1-a-02, each on its own now."; got != want {
		t.Errorf("reason %q, want %q", got, want)
	}
	h.take(h.over(gone[0]))
	h.want("r1-a-01 inactive")
}

// TestRebootsSayNothingOfReports: who reports tells where a silence ends, and nothing of boards that rebooted.
func TestRebootsSayNothingOfReports(t *testing.T) {
	f := func(places map[string]alert.Place, fired []string, summary, reason string) {
		t.Helper()
		h := newTheatre(t, places)
		h.take(h.each(fired, func(b string) alert.Transition {
			r := h.silent(b)
			r.Rule, r.Labels["alertname"], r.Annotations["what"] = "board-slow/BoardRebooted", "BoardRebooted", "rebooted"
			delete(r.Annotations, alert.LastReportNote)
			return r
		})...)
		h.until(time.Second)
		if got := h.passed[0].Annotations; got["summary"] != summary || got[alert.ReasonNote] != reason {
			t.Errorf("got  %q\n     %q\nwant %q\n     %q", got["summary"], got[alert.ReasonNote], summary, reason)
		}
	}
	const within = " within 0.0 s, up to 18:00:00 UTC."
	one, two := alerttest.Fleet(1, 1, 4, nil), alerttest.Fleet(2, 2, 4, nil)
	f(one, alerttest.BoardsIn(one, "r"), "Switch r1-a (rack r1): 4 of 4 boards rebooted", "4 of 4 boards of switch r1-a"+within)
	f(two, alerttest.BoardsIn(two, "r1-a"), "Switch r1-a (rack r1): 4 of 4 boards rebooted", "4 of 4 boards of switch r1-a"+within+" Switch r1-b of rack r1 is not affected.")
	f(two, alerttest.BoardsIn(two, "r"), "All 16 boards rebooted", "16 of 16 boards"+within+" No board is spared, whatever its switch or rack.")
}

// TestDissolvedDomainNamesWhatHolds: boards that only cool when the rest is well are not on their own.
func TestDissolvedDomainNamesWhatHolds(t *testing.T) {
	places := alerttest.Fleet(1, 1, 20, nil)
	h := newTheatre(t, places)
	gone := h.each(alerttest.BoardsIn(places, "r1"), h.hot)
	h.take(gone...)
	h.until(time.Second)
	cool := gone[0]
	cool.From, cool.State, cool.At = alert.Firing, alert.Cooling, h.now.UnixMilli()
	h.take(cool)
	for _, g := range gone[2:] {
		h.take(h.over(g))
	}
	h.until(3 * time.Minute)
	last := h.passed[len(h.passed)-1]
	if want := "Over for 19 of 20 boards; not for r1-a-02, each on its own now."; last.State != alert.Inactive || last.Annotations[alert.ReasonNote] != want {
		t.Errorf("%s: %q, want %q", last.State, last.Annotations[alert.ReasonNote], want)
	}
}

// TestSilencedBoardsAreNoDomain: a person who has silenced the boards of a switch by their names is not paged for the switch.
func TestSilencedBoardsAreNoDomain(t *testing.T) {
	places := alerttest.Fleet(3, 1, 4, nil)
	h := newTheatre(t, places)
	h.hush = map[string]bool{}
	for _, b := range alerttest.BoardsIn(places, "r1") {
		h.hush[b] = true
	}
	h.take(h.each(alerttest.BoardsIn(places, "r1"), func(b string) alert.Transition { return quiet(b, h) })...)
	h.until(10 * time.Second)
	h.want("r1-a-01 firing", "r1-a-02 firing", "r1-a-03 firing", "r1-a-04 firing")
	delete(h.hush, "r1-a-01")
	h.take(h.each(alerttest.BoardsIn(places, "r2"), func(b string) alert.Transition { return quiet(b, h) })...)
	h.until(10 * time.Second)
	h.want("switch r2-a firing", "r2-a-01 firing", "r2-a-02 firing", "r2-a-03 firing", "r2-a-04 firing")
}

// TestNewRuleFindsOldSilence: a rule that is new fires for all boards that are silent, whenever that began: they are no
// failure of what they share.
func TestNewRuleFindsOldSilence(t *testing.T) {
	places := alerttest.Fleet(3, 1, 4, nil)
	h := newTheatre(t, places)
	var all []alert.Transition
	for i, b := range alerttest.BoardsIn(places, "r1") {
		all = append(all, h.silent(b, alert.LastReportNote, h.now.Add(time.Duration(-i-1)*time.Hour).Format(alert.NoteTime)))
	}
	h.take(all...)
	h.until(time.Second)
	h.want("r1-a-04 firing", "r1-a-03 firing", "r1-a-02 firing", "r1-a-01 firing")
}

// TestJournalThatTakesNothing: the domain pages all the same, and before its boards.
func TestJournalThatTakesNothing(t *testing.T) {
	places := alerttest.Fleet(2, 1, 4, nil)
	h := newTheatre(t, places)
	h.open = true
	h.take(h.each(alerttest.BoardsIn(places, "r1"), func(b string) alert.Transition { return quiet(b, h) })...)
	h.until(4 * time.Second)
	h.want()
	h.until(4 * time.Second)
	h.want("switch r1-a firing", "r1-a-01 firing", "r1-a-02 firing", "r1-a-03 firing", "r1-a-04 firing")
}

// TestReplayDecidesTheSame cuts the list of journalled transitions at every place, as a crash does, and replays what is
// before it into a new state: each alert is handed on in the order in which a page needs it, and the domain once.
func TestReplayDecidesTheSame(t *testing.T) {
	places := alerttest.Fleet(2, 1, 4, nil)
	h := newTheatre(t, places)
	gone := h.each(alerttest.BoardsIn(places, "r1"), func(b string) alert.Transition { return quiet(b, h) })
	h.take(gone...)
	h.until(time.Minute)
	for _, g := range gone {
		h.take(h.over(g))
	}
	h.until(time.Minute)
	journal := slices.Clone(gone)
	journal = append(journal, h.passed[0])
	journal = append(journal, h.passed[5:]...) // the boards' ends, and the domain's
	if n := len(journal); n != 10 || journal[9].Series != journal[4].Series {
		t.Fatalf("journal of %d: %v", n, h.log)
	}
	for cut := range len(journal) + 1 {
		again := newTheatre(t, places)
		again.now = h.now
		unknown := again.f
		again.f = nil // the fleet is known only when the replay is over
		again.take(journal[:cut]...)
		again.f = unknown
		again.until(10 * time.Second)
		domain, boards := 0, 0
		for _, l := range again.log {
			switch {
			case l == "switch r1-a firing":
				domain++
			case strings.HasSuffix(l, " firing"):
				boards++
				if domain == 0 && cut >= 4 {
					t.Errorf("cut at %d: a board before its switch: %q", cut, again.log)
				}
			}
		}
		if want := min(cut, 4); boards != want {
			t.Errorf("cut at %d: %d boards, want %d: %q", cut, boards, want, again.log)
		}
		if cut >= 4 && domain != 1 {
			t.Errorf("cut at %d: the switch %d times: %q", cut, domain, again.log)
		}
	}
}

// delivered is a pager that notes the transitions that it is given, in order, and each once: it knows the transitions that it has been given.
type delivered struct {
	said   []string
	known  map[string]bool
	faults int
}

func (p *delivered) Deliver(ts []alert.Transition) {
	for _, t := range ts {
		subject := t.Labels[alert.BoardLabel]
		if d, ok := alert.DomainOf(&t); ok {
			subject = d.String()
		}
		if said := fmt.Sprintf("%s %s", t.State, subject); !p.known[said] {
			p.known[said] = true
			p.said = append(p.said, said)
		}
	}
}

func (p *delivered) Resume(_, _ []alert.Transition)    {}
func (p *delivered) Held() []alert.Transition          { return nil }
func (p *delivered) Barrier(...alert.Transition) error { return nil }
func (p *delivered) Silenced(*alert.Transition) bool   { return false }
func (p *delivered) Guard(_ string, f func()) (ok bool) {
	defer func() {
		if recover() != nil {
			p.faults++
		}
	}()
	f()
	return true
}

// A fault where domains are decided costs an alert its domain and never its page; once it is over one failure is one page again,
// of boards whose alerts waited meanwhile too.
func TestFaultCostsAnAlertItsDomainAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places := alerttest.Fleet(4, 1, 20, nil)
		engine, pager := rules.NewEngine(nil), &delivered{known: map[string]bool{}}
		fleet := func() map[string]alert.Place { return places }
		var d *Decider
		commit := func(ts []alert.Transition) error {
			for _, one := range ts {
				engine.Apply(one)
			}
			d.Deliver(ts)
			return nil
		}
		d = New(Options{Apply: engine.Apply, Firing: engine.Firing, Pager: pager, Fleet: func() map[string]alert.Place { return fleet() }, Commit: commit,
			Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = d.Run(ctx) })
		defer running.Wait()
		defer cancel()
		broken := func(times int) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.indexed = time.Time{}
			fleet = func() map[string]alert.Place {
				if times--; times >= 0 {
					panic("not prepared for this")
				}
				return places
			}
		}
		rack := func(name string) (hot []alert.Transition) {
			for _, b := range alerttest.BoardsIn(places, name) {
				hot = append(hot, alerttest.Hot(places, b, time.Now()))
			}
			return hot
		}
		f := func(want string, ts ...alert.Transition) {
			t.Helper()
			if err := commit(ts); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			said := slices.DeleteFunc(pager.said, func(s string) bool { return strings.HasPrefix(s, "firing r2-") }) // alerts that met the fault by themselves
			if len(said) == 0 || said[0] != want {
				t.Errorf("delivered %q, want %s first", said, want)
			}
			pager.said = nil
		}
		broken(1000)
		for _, one := range rack("r1")[:2] {
			f("firing "+one.Labels[alert.BoardLabel], one)
		}
		broken(2)
		f("firing switch r2-a", rack("r2")...)
		broken(0)
		f("firing switch r3-a", rack("r3")...)
		d.mu.Lock()
		d.fleet, d.indexed = nil, time.Now().Add(time.Hour) // nothing can be decided without it
		d.mu.Unlock()
		f("firing r4-a-01", rack("r4")[0])
		if pager.faults < 4 {
			t.Errorf("%d faults counted, want at least 4", pager.faults)
		}
	})
}
