package pager

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/alertmanager/silence/silencepb"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/domain"
	"bramble/alerting/incident"
	"bramble/alerting/rules"
	"bramble/storage/series"
)

// stage is a Decider before a running pager. Its journal is a list, on disk at once.
type stage struct {
	*domain.Decider
	pager   *testPager
	engine  *rules.Engine
	mu      sync.Mutex
	journal []alert.Transition
	stop    func()
}

// startStage opens one on a database, restores a checkpoint, replays the journal behind it and runs it.
func startStage(t testing.TB, db *sql.DB, config []byte, places map[string]alert.Place, checkpoint []alert.Transition, journal ...alert.Transition) *stage {
	t.Helper()
	s := &stage{engine: rules.NewEngine(rules.Default()), journal: slices.Clone(journal)}
	s.pager = startPager(t, db, config, func(p *Pager) {
		p.suppress.engine = s.engine
		s.Decider = domain.New(domain.Options{Apply: s.engine.Apply, Firing: s.engine.Firing, Pager: p, Fleet: func() map[string]alert.Place { return places }, Commit: s.commit})
		for _, tr := range append(slices.Clone(checkpoint), journal...) {
			s.engine.Apply(tr)
		}
		s.Decider.Deliver(journal)
		s.Decider.Resume(s.engine.Firing())
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	s.stop = sync.OnceFunc(func() { cancel(); running.Wait(); s.pager.stop() })
	t.Cleanup(s.stop)
	return s
}

// commit journals, as the collector's ingest does, and delivers.
func (s *stage) commit(ts []alert.Transition) error {
	s.mu.Lock()
	s.journal = append(s.journal, ts...)
	s.mu.Unlock()
	for _, t := range ts {
		s.engine.Apply(t)
	}
	s.Deliver(ts)
	return nil
}

func (s *stage) written() []alert.Transition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.journal)
}

// theirs is somebody's own alertmanager.yml, which knows nothing of domains: every board is a group.
func theirs(url string) []byte {
	return []byte(fmt.Sprintf(`
route: {receiver: oncall, group_by: [alertname, board], group_wait: 0s, group_interval: 1s, repeat_interval: 4h}
inhibit_rules:
- source_matchers: [alertname = SocHot]
  target_matchers: [alertname = Throttled]
  equal: [board]
receivers:
- name: oncall
  webhook_configs: [{url: %q}]
`, url))
}

// said lists "status alertname board-or-domain" of a page's alerts.
func (h hook) said() string {
	var out []string
	for _, a := range h.Alerts {
		who := a.Labels["board"]
		if d := a.Labels["domain"]; d != "" {
			who = d + " " + a.Labels[d]
		}
		out = append(out, a.Status+" "+a.Labels["alertname"]+" "+strings.TrimSpace(who))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// TestOneFailureOnePage: 500 boards vanish behind one switch, under a configuration that would page each of them.
func TestOneFailureOnePage(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	places := alerttest.Fleet(2, 2, 500, nil)
	d := startStage(t, openDB(t, t.TempDir()), theirs(s.URL), places, nil)
	began := time.Now()
	var gone []alert.Transition
	for _, b := range alerttest.BoardsIn(places, "r1-a") {
		gone = append(gone, alerttest.Silent(places, b, began))
	}
	if err := d.commit(gone); err != nil {
		t.Fatal(err)
	}
	h := s.next(t)
	t.Logf("the page left after %v", h.at.Sub(began)) // TestDomainTimes and the benchmarks judge that
	if h.said() != "firing BoardSilent switch r1-a" {
		t.Errorf("page: %s", h.said())
	}
	in := d.pager.until(t, "delivered", pageState("delivered"))
	if !strings.HasPrefix(in.Title, "Switch r1-a (rack r1): 500 of 500 boards silent since") || len(in.Alerts) != 1 || len(in.Alerts[0].Boards) != 500 {
		t.Errorf("incident %q with %d alerts", in.Title, len(in.Alerts))
	}
	// Boards join late, others come back one by one, and all the while nobody is paged: a fence tells when it is through.
	fence := alerttest.Silent(places, "r2-b-001", time.Now())
	delete(fence.Labels, "customer")
	if err := d.commit([]alert.Transition{fence}); err != nil {
		t.Fatal(err)
	}
	if h := s.next(t); h.said() != "firing BoardSilent r2-b-001" {
		t.Errorf("page: %s", h.said())
	}
	if shown := d.suppressed(t); shown != 500 {
		t.Errorf("%d alerts are shown as inhibited, want 500", shown)
	}
	for _, g := range gone {
		if err := d.commit([]alert.Transition{alerttest.Resolve(g, time.Now())}); err != nil {
			t.Fatal(err)
		}
	}
	if h := s.next(t); h.said() != "resolved BoardSilent switch r1-a" {
		t.Errorf("page: %s", h.said())
	}
	if err := d.commit([]alert.Transition{alerttest.Resolve(fence, time.Now())}); err != nil {
		t.Fatal(err)
	}
	if h := s.next(t); h.said() != "resolved BoardSilent r2-b-001" {
		t.Errorf("page: %s", h.said())
	}
	s.none(t, "after all is over")
}

// suppressed counts the alerts that the API shows as inhibited, by an alert that it shows as well.
func (s *stage) suppressed(t *testing.T) (n int) {
	t.Helper()
	rec := get(t, s.pager.Handler(), "/api/v2/alerts")
	var alerts []struct {
		Fingerprint string
		Status      struct{ InhibitedBy []string }
	}
	if err := json.Unmarshal(rec, &alerts); err != nil {
		t.Fatal(err)
	}
	for _, a := range alerts {
		if by := a.Status.InhibitedBy; len(by) == 1 {
			if !slices.ContainsFunc(alerts, func(o struct {
				Fingerprint string
				Status      struct{ InhibitedBy []string }
			}) bool {
				return o.Fingerprint == by[0]
			}) {
				t.Errorf("inhibited by %s, which is not there", by[0])
			}
			n++
		}
	}
	return n
}

// TestRackThatHeatsUp: the air conditioning fails, and 48 boards throttle within a second.
func TestRackThatHeatsUp(t *testing.T) {
	s := newSink(t, nil)
	places := alerttest.Fleet(2, 1, 48, nil)
	d := startStage(t, openDB(t, t.TempDir()), theirs(s.URL), places, nil)
	for _, b := range alerttest.BoardsIn(places, "r1") {
		if err := d.commit([]alert.Transition{alerttest.Hot(places, b, time.Now())}); err != nil {
			t.Fatal(err)
		}
	}
	if p := s.next(t); p.said() != "firing SocHot switch r1-a" {
		t.Errorf("page: %s", p.said())
	}
	fence := alerttest.Fire("elsewhere", time.Now())
	if err := d.commit([]alert.Transition{fence}); err != nil {
		t.Fatal(err)
	}
	if p := s.next(t); p.said() != "firing SocHot elsewhere" {
		t.Errorf("page: %s", p.said())
	}
	s.none(t, "one failure is one page")
}

// TestCustomersOwnDoing: a lone board of a customer is an incident and no page; the operator's own board pages.
func TestCustomersOwnDoing(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	places := alerttest.Fleet(2, 2, 4, nil)
	delete(places["r2-a-01"].Labels, "customer")
	d := startStage(t, openDB(t, t.TempDir()), theirs(s.URL), places, nil)
	lone := alerttest.Silent(places, "r1-a-01", time.Now())
	if err := d.commit([]alert.Transition{lone}); err != nil {
		t.Fatal(err)
	}
	in := d.pager.until(t, "recorded", func(in incident.Incident) bool { return in.Receiver == alert.Nobody })
	if len(in.Pages) != 0 || !strings.HasPrefix(in.Title, "r1-a-01: no reports since") {
		t.Errorf("incident %+v", in)
	}
	if err := d.commit([]alert.Transition{alerttest.Silent(places, "r2-a-01", time.Now())}); err != nil {
		t.Fatal(err)
	}
	if h := s.next(t); h.said() != "firing BoardSilent r2-a-01" {
		t.Errorf("page: %s", h.said())
	}
	if err := d.commit([]alert.Transition{alerttest.Resolve(lone, time.Now())}); err != nil {
		t.Fatal(err)
	}
	d.pager.until(t, "resolved", func(in incident.Incident) bool { return in.Receiver == alert.Nobody && in.ResolvedAt != 0 })
	s.none(t, "the customer's board")
}

// TestDomainSurvivesRestarts replays the journal of a switch's failure from each of its places, in a pager that has seen
// all of it or nothing: the switch is one page and no board is.
func TestDomainSurvivesRestarts(t *testing.T) {
	t.Parallel()
	places := alerttest.Fleet(2, 1, 4, nil)
	f := func(name string, settle bool, cut func(journal []alert.Transition) []alert.Transition) {
		t.Run(name, func(t *testing.T) {
			s := newSink(t, nil)
			db := openDB(t, t.TempDir())
			d := startStage(t, db, theirs(s.URL), places, nil)
			var gone []alert.Transition
			for _, b := range alerttest.BoardsIn(places, "r1") {
				gone = append(gone, alerttest.Silent(places, b, time.Now()))
			}
			if err := d.commit(gone); err != nil {
				t.Fatal(err)
			}
			first := s.next(t)
			if settle {
				if err := d.Settle(); err != nil {
					t.Fatal(err)
				}
			}
			d.stop()
			journal := cut(d.written())
			firing := d.engine.Firing()
			d = startStage(t, db, theirs(s.URL), places, firing, journal...)
			fence := alerttest.Fire("fence", time.Now())
			if err := d.commit([]alert.Transition{fence}); err != nil {
				t.Fatal(err)
			}
			for {
				h := s.next(t)
				if h.said() == "firing SocHot fence" {
					break
				}
				if h.said() == "firing BoardSilent switch r1-a" && h.id == first.id {
					continue // the same page again, which its receiver tells by its key
				}
				t.Errorf("page: %s %s", h.said(), h.id)
			}
		})
	}
	all := func(j []alert.Transition) []alert.Transition { return j }
	f("whole journal", false, all)
	f("boards alone in the journal", false, func(j []alert.Transition) []alert.Transition { return j[:4] })
	f("settled, whole journal", true, all)
	f("settled, journal truncated", true, func([]alert.Transition) []alert.Transition { return nil })
}

func get(t *testing.T, h http.Handler, path string) []byte {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, rec.Code, rec.Body)
	}
	return rec.Body.Bytes()
}

// TestDomainTimes runs the stage on fake time: it decides half a second after the first alert, journals before it hands
// on, and lets go of what stays behind after two minutes.
func TestDomainTimes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		db := openDB(t, dir)
		p, err := Open(Options{DB: db})
		if err != nil {
			t.Fatal(err)
		}
		places := alerttest.Fleet(2, 1, 20, nil)
		e := rules.NewEngine(rules.Default())
		commits := make(chan string, 100)
		var d *domain.Decider
		d = domain.New(domain.Options{Apply: e.Apply, Firing: e.Firing, Pager: p, Fleet: func() map[string]alert.Place { return places },
			Commit: func(ts []alert.Transition) error {
				for _, c := range ts {
					commits <- c.Labels["switch"] + " " + c.State.String()
				}
				d.Deliver(ts)
				return nil
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- d.Run(ctx) }()
		want := func(after time.Duration, want ...string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			var committed []string
			for len(commits) > 0 {
				committed = append(committed, <-commits)
			}
			if !slices.Equal(committed, want) {
				t.Errorf("committed %q, want %q", committed, want)
			}
		}
		began := time.Now()
		var gone []alert.Transition
		for _, b := range alerttest.BoardsIn(places, "r1") {
			gone = append(gone, alerttest.Silent(places, b, began))
		}
		d.Deliver(gone)
		want(499 * time.Millisecond)
		want(2*time.Millisecond, "r1-a firing")
		if firing := e.Firing(); len(firing) != 1 || firing[0].Series != `domain="switch",rack="r1",switch="r1-a"` {
			t.Errorf("the engine's checkpoint lacks the domain: %v", firing)
		}
		want(time.Hour)
		for _, g := range gone[:18] {
			d.Deliver([]alert.Transition{alerttest.Resolve(g, time.Now())})
		}
		want(119 * time.Second)
		want(3*time.Second, "r1-a inactive")
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		db.Close()
	})
}

// bit is the alert of a firmware bit of a board of places.
func bit(places map[string]alert.Place, board, name, reason string, at time.Time) alert.Transition {
	t := alerttest.Fire(board, at)
	t.Rule, t.Series = "board/"+name, series.Pair("board", board)+","+series.Pair("reason", reason)
	t.Labels = map[string]string{"alertname": name, "board": board, "severity": "critical", "reason": reason}
	maps.Copy(t.Labels, places[board].Labels)
	return t
}

// TestOneCauseSeveralBits: low voltage that also throttles and caps the clock is one page where the routes group by the
// alert's name, of a board as of a switch. What is left when the first is over pages then; two causes are two pages, and so
// are two receivers.
func TestOneCauseSeveralBits(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	config := fmt.Sprintf(`
route:
  receiver: a
  group_by: [alertname]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 4h
  routes: [{receiver: b, matchers: [alertname = Elsewhere]}]
receivers:
- {name: a, webhook_configs: [{url: %[1]q}]}
- {name: b, webhook_configs: [{url: %[1]q}]}
`, s.URL)
	places := alerttest.Fleet(3, 1, 4, nil)
	d := startStage(t, openDB(t, t.TempDir()), []byte(config), places, nil)
	commit := func(ts ...alert.Transition) {
		t.Helper()
		if err := d.commit(ts); err != nil {
			t.Fatal(err)
		}
	}
	want := func(said ...string) {
		t.Helper()
		var got []string
		for range said {
			got = append(got, s.next(t).said())
		}
		slices.Sort(got)
		if diff := cmp.Diff(said, got); diff != "" {
			t.Fatalf("pages (-want +got):\n%s", diff)
		}
	}
	now := time.Now()
	under := bit(places, "r1-a-01", "UnderVoltage", "under_voltage", now)
	throttled := bit(places, "r1-a-01", "Throttled", "throttled", now)
	capped := bit(places, "r1-a-01", "FrequencyCapped", "frequency_capped", now.Add(time.Minute))
	commit(capped, throttled, under)
	want("firing UnderVoltage r1-a-01")
	if n := d.suppressed(t); n != 2 {
		t.Errorf("the API shows %d alerts as inhibited, want 2", n)
	}
	commit(alerttest.Resolve(under, time.Now()), alerttest.Resolve(capped, time.Now()))
	want("firing Throttled r1-a-01", "resolved UnderVoltage r1-a-01")
	commit(alerttest.Resolve(throttled, time.Now()))
	want("resolved Throttled r1-a-01")

	var both []alert.Transition
	for _, b := range alerttest.BoardsIn(places, "r2") {
		both = append(both, bit(places, b, "Throttled", "throttled", now), bit(places, b, "UnderVoltage", "under_voltage", now))
	}
	commit(both...)
	want("firing UnderVoltage switch r2-a")
	commit(bit(places, "r3-a-01", "SoftTemperatureLimit", "soft_temperature_limit", now), bit(places, "r3-a-01", "UnderVoltage", "under_voltage", now))
	commit(bit(places, "r3-a-01", "Elsewhere", "throttled", now))
	want("firing Elsewhere r3-a-01", "firing SoftTemperatureLimit r3-a-01", "firing UnderVoltage r3-a-01, firing UnderVoltage switch r2-a")
	s.none(t, "all is told")
}

// TestReleasedPagesWhatHolds lets a board throttle for one reading and another one for good while something suppresses
// their pages, each in every way in which that comes to an end: the page tells of the board that throttles by its newest
// reading, and of the other when it throttles again. A board that is silent by then counts as one that does.
func TestReleasedPagesWhatHolds(t *testing.T) {
	t.Parallel()
	const over, holds, dark = "r1-a-01", "r2-a-01", "r3-a-01"
	places := alerttest.Fleet(3, 1, 4, func(_ string, labels map[string]string) { delete(labels, "customer") })
	config := func(url string) []byte {
		return []byte(fmt.Sprintf(`
route: {receiver: oncall, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 4h}
inhibit_rules:
- {source_matchers: [alertname = Works], target_matchers: [alertname = Throttled]}
receivers:
- {name: oncall, webhook_configs: [{url: %q}]}
`, url))
	}
	f := func(name string, suppress func(*testing.T, *stage) (release func(*stage)), restart bool, first, then string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sk, db := newSink(t, nil), openDB(t, t.TempDir())
			d := startStage(t, db, config(sk.URL), places, nil)
			d.running(t)
			ms := time.Now().UnixMilli()
			read := func(board, metric string, value float64, own ...series.Label) {
				t.Helper()
				ms += 1000
				var registry []series.Label
				for n, v := range places[board].Labels {
					registry = append(registry, series.Label{Name: n, Value: v})
				}
				s := d.engine.Series(append([]series.Label{{Name: series.NameLabel, Value: metric}, {Name: alert.BoardLabel, Value: board}}, own...), registry)
				if err := d.commit(d.engine.Observe(board+metric, ms, []rules.Reading{{Series: s, Value: value}})); err != nil {
					t.Fatal(err)
				}
			}
			throttle := func(board string, value float64) {
				read(board, alert.ThrottledMetric, value, series.Label{Name: "reason", Value: "throttled"})
			}
			want := func(said string) {
				t.Helper()
				for {
					got := sk.next(t).said()
					if strings.Contains(got, "BoardSilent") || strings.Contains(got, "Works") {
						continue
					}
					if got != said {
						t.Fatalf("page: %s, want %s", got, said)
					}
					return
				}
			}
			release := suppress(t, d)
			for _, b := range []string{over, holds, dark} {
				throttle(b, 1)
			}
			throttle(over, 0)
			throttle(dark, 0)
			read(dark, alert.UpMetric, 0)
			taken := func() bool { return len(d.engine.Firing()) >= 4 && d.pager.suppressedAlerts() == 3 }
			d.until(t, "the alerts are not taken in", taken)
			if restart {
				firing := d.engine.Firing()
				d.stop()
				d = startStage(t, db, config(sk.URL), places, firing)
				d.until(t, "the alerts are not taken in again", taken)
				for _, b := range []string{over, holds} { // the collector decides on the next readings
					throttle(b, map[string]float64{holds: 1}[b])
				}
				read(dark, alert.UpMetric, 0)
			}
			release(d)
			want(first)
			throttle(over, 1)
			want(then)
		})
	}
	inhibit := func(t *testing.T, d *stage) func(*stage) {
		works := alerttest.Fire("", time.Now())
		works.Rule, works.Series, works.Labels = "x/Works", "", map[string]string{"alertname": "Works"}
		if err := d.commit([]alert.Transition{works}); err != nil {
			t.Fatal(err)
		}
		d.until(t, "no inhibition", func() bool { return d.pager.suppress.muted(model.LabelSet{"alertname": "Throttled"}) })
		return func(d *stage) {
			if err := d.commit([]alert.Transition{alerttest.Resolve(works, time.Now())}); err != nil {
				t.Fatal(err)
			}
		}
	}
	silence := func(length time.Duration) func(*testing.T, *stage) func(*stage) {
		return func(t *testing.T, d *stage) func(*stage) {
			one := &silencepb.Silence{
				StartsAt: timestamppb.Now(), EndsAt: timestamppb.New(time.Now().Add(length)), CreatedBy: "mira",
				MatcherSets: []*silencepb.MatcherSet{{Matchers: []*silencepb.Matcher{{Name: "alertname", Pattern: "Throttled"}}}},
			}
			if err := d.pager.am.silences.Set(t.Context(), one); err != nil {
				t.Fatal(err)
			}
			d.until(t, "the silence is not followed", func() bool { return d.pager.mutes.watching(model.LabelSet{"alertname": "Throttled"}) != nil })
			return func(d *stage) {
				if length < time.Hour {
					return // it ends by itself
				}
				if err := d.pager.am.silences.Expire(t.Context(), one.Id); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	maintain := func(t *testing.T, d *stage) func(*stage) {
		m := d.begin(t, 0, "alertname=Throttled")
		return func(d *stage) { d.end(t, m) }
	}
	const both, all = "firing Throttled r2-a-01, firing Throttled r3-a-01", "firing Throttled r1-a-01, firing Throttled r2-a-01, firing Throttled r3-a-01"
	f("inhibition", inhibit, false, both, all)
	f("silence that is deleted", silence(time.Hour), false, "firing StillFiringAfterSilence ", "firing Throttled r1-a-01")
	f("silence that expires", silence(5*time.Second), false, "firing StillFiringAfterSilence ", "firing Throttled r1-a-01")
	f("maintenance", maintain, false, "firing NotBackAfterMaintenance ", "firing Throttled r1-a-01")
	f("maintenance and a restart", maintain, true, "firing NotBackAfterMaintenance ", "firing Throttled r1-a-01")
}

// suppressedAlerts counts the alerts of which the pager knows that something suppressed them.
func (p *Pager) suppressedAlerts() (n int) {
	p.inbox.mu.Lock()
	defer p.inbox.mu.Unlock()
	for _, l := range p.inbox.live {
		if l.suppressed {
			n++
		}
	}
	return n
}
