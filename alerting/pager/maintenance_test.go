package pager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/incident"
	"bramble/alerting/maintenance"
	"bramble/storage/statedb"
)

// startGuarded is startStage with a fleet that maintenances know.
func startGuarded(t *testing.T, dir string, url string, places map[string]alert.Place, checkpoint ...alert.Transition) *stage {
	t.Helper()
	d := startStage(t, openDB(t, dir), theirs(url), places, checkpoint)
	d.pager.mutes.maintenances.Fleet = func() map[string]alert.Place { return places }
	return d
}

// operators' own boards page alone.
func ownFleet(racks, switches, ports int) map[string]alert.Place {
	return alerttest.Fleet(racks, switches, ports, func(_ string, labels map[string]string) { delete(labels, "customer"); labels["site"] = "east" })
}

func (s *stage) begin(t *testing.T, confirm int, matchers ...string) maintenance.Maintenance {
	t.Helper()
	m, err := s.pager.Maintenances().Start(t.Context(), maintenance.Request{
		Matchers: matchers, For: time.Hour, Grace: time.Millisecond, Confirm: confirm, Comment: "new PSU", By: "mira",
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (s *stage) end(t *testing.T, m maintenance.Maintenance) {
	t.Helper()
	if _, err := s.pager.Maintenances().End(t.Context(), m.Number, "mira"); err != nil {
		t.Fatal(err)
	}
}

// silence commits that boards fell silent, and returns the transitions.
func (s *stage) silence(t *testing.T, places map[string]alert.Place, boards ...string) (gone []alert.Transition) {
	t.Helper()
	for _, b := range boards {
		gone = append(gone, alerttest.Silent(places, b, time.Now()))
	}
	if err := s.commit(gone); err != nil {
		t.Fatal(err)
	}
	return gone
}

func (s *stage) back(t *testing.T, gone []alert.Transition) {
	t.Helper()
	var ts []alert.Transition
	for _, g := range gone {
		ts = append(ts, alerttest.Resolve(g, time.Now()))
	}
	if err := s.commit(ts); err != nil {
		t.Fatal(err)
	}
}

// fence pages for a board elsewhere: when its page is there, all that came before it has had its chance.
func (s *stage) fence(t *testing.T, sk *sink, name string) {
	t.Helper()
	f := alerttest.Fire(name, time.Now())
	delete(f.Labels, "rack")
	if err := s.commit([]alert.Transition{f}); err != nil {
		t.Fatal(err)
	}
	if h := sk.next(t); h.said() != "firing SocHot "+name {
		t.Errorf("page: %s; want only the one for %s", h.said(), name)
	}
	s.pager.until(t, "the fence", func(in incident.Incident) bool {
		return strings.HasPrefix(in.Title, name+":") && pageState("delivered")(in)
	})
}

// running waits until the pager runs.
func (s *stage) running(t *testing.T) {
	t.Helper()
	s.until(t, "the pager does not run", func() bool { return s.pager.am.dispatch.Load() != nil })
}

func (s *stage) until(t *testing.T, why string, ok func() bool) {
	t.Helper()
	timeout := time.After(patience)
	for !ok() {
		select {
		case <-timeout:
			t.Fatal(why)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// shown waits until the API shows so many alerts as held by something.
func (s *stage) shown(t *testing.T, by string, n int) {
	t.Helper()
	s.running(t)
	s.until(t, fmt.Sprintf("the API does not show %d alerts as held by %s", n, by), func() bool {
		return strings.Count(string(get(t, s.pager.Handler(), "/api/v2/alerts")), by) == n
	})
}

// TestMaintenance: a rack is worked on, and three boards do not come back.
func TestMaintenance(t *testing.T) {
	t.Parallel()
	sk, places := newSink(t, nil), ownFleet(2, 2, 8)
	d := startGuarded(t, t.TempDir(), sk.URL, places)
	m := d.begin(t, 16, `rack="r1"`)
	if m.State != maintenance.Running || m.Boards != 16 || m.Number != 1 {
		t.Errorf("started %+v", m)
	}
	gone := d.silence(t, places, alerttest.BoardsIn(places, "r1")...)
	d.fence(t, sk, "first")
	d.shown(t, `"maintenance 1"`, 16)
	d.back(t, gone[3:])
	d.end(t, m)
	h := sk.next(t)
	if h.said() != "firing NotBackAfterMaintenance " || h.Alerts[0].Labels["rack"] != "r1" || h.Alerts[0].Labels["maintenance"] != "1" {
		t.Errorf("page: %s, labels %v", h.said(), h.Alerts[0].Labels)
	}
	in := d.pager.until(t, "left behind", func(in incident.Incident) bool {
		return strings.Contains(in.Title, "maintenance") && pageState("delivered")(in)
	})
	if !strings.HasPrefix(in.Title, "Switch r1-a: 3 of 16 boards did not come back after maintenance 1 since ") ||
		!slices.Equal(in.Alerts[0].Boards, []string{"r1-a-01", "r1-a-02", "r1-a-03"}) {
		t.Errorf("incident %q of %v", in.Title, in.Alerts[0].Boards)
	}
	if reason := in.Alerts[0].Annotations[alert.ReasonNote]; !strings.Contains(reason, "“new PSU”), begun by mira") || !strings.Contains(reason, "r1-a-02 (BoardSilent)") {
		t.Errorf("reason: %s", reason)
	}
	d.fence(t, sk, "second")
	d.back(t, gone[:3])
	if h := sk.next(t); h.said() != "resolved NotBackAfterMaintenance " {
		t.Errorf("page: %s", h.said())
	}
	list, err := d.pager.Maintenances().List(t.Context())
	if err != nil || len(list) != 1 || list[0].State != maintenance.Over || len(list[0].NotBack) != 3 || list[0].EndedBy != "mira" {
		t.Errorf("list %+v, %v", list, err)
	}
	// A board that falls silent afterwards pages as ever.
	d.silence(t, places, "r1-a-01")
	if h := sk.next(t); h.said() != "firing BoardSilent r1-a-01" {
		t.Errorf("page: %s", h.said())
	}
	sk.none(t, "at the end")
}

// TestMaintenanceRestarts: the collector is killed while a maintenance runs, and again when it has told what it left.
func TestMaintenanceRestarts(t *testing.T) {
	t.Parallel()
	sk, places, dir := newSink(t, nil), ownFleet(2, 1, 8), t.TempDir()
	d := startGuarded(t, dir, sk.URL, places)
	m := d.begin(t, 8, `rack="r1"`)
	gone := d.silence(t, places, alerttest.BoardsIn(places, "r1")...)
	d.fence(t, sk, "first")
	d.shown(t, `"maintenance 1"`, 8)
	d.stop()
	journal := d.written()

	d = startGuarded(t, dir, sk.URL, places, journal...)
	d.fence(t, sk, "second")
	d.end(t, m)
	if h := sk.next(t); h.said() != "firing NotBackAfterMaintenance " {
		t.Errorf("page: %s", h.said())
	}
	d.pager.until(t, "left behind", func(in incident.Incident) bool {
		return strings.Contains(in.Title, "8 of 8") && pageState("delivered")(in)
	})
	d.stop()

	d = startGuarded(t, dir, sk.URL, places, append(journal, d.written()...)...)
	d.fence(t, sk, "third")
	d.back(t, gone)
	if h := sk.next(t); h.said() != "resolved NotBackAfterMaintenance " {
		t.Errorf("page: %s", h.said())
	}
	d.fence(t, sk, "fourth")
}

// TestMaintenanceHandsOver: while a maintenance ends and what it left takes its place, and when that ends with its boards,
// no alert of theirs may page: a group may be flushed that has not heard of their end.
func TestMaintenanceHandsOver(t *testing.T) {
	sk, places := newSink(t, nil), ownFleet(2, 1, 8)
	d := startGuarded(t, t.TempDir(), sk.URL, places)
	m := d.begin(t, 8, `rack="r1"`)
	gone := d.silence(t, places, alerttest.BoardsIn(places, "r1")...)
	d.shown(t, `"maintenance 1"`, 8)
	var alerts []*amalert.Alert
	for range 1000 {
		for _, g := range gone {
			alerts = append(alerts, amAlert(g))
		}
	}
	over, done := make(chan struct{}), make(chan int)
	go func() {
		slipped := 0
		for stage := (suppressStage{d.pager.suppress}); ; {
			_, kept, _ := stage.Exec(context.Background(), slog.New(slog.DiscardHandler), alerts...)
			slipped = max(slipped, len(kept))
			select {
			case <-over:
				done <- slipped
				return
			default:
			}
		}
	}()
	d.end(t, m)
	if h := sk.next(t); h.said() != "firing NotBackAfterMaintenance " {
		t.Errorf("page: %s", h.said())
	}
	d.pager.until(t, "left behind", func(in incident.Incident) bool {
		return strings.Contains(in.Title, "8 of 8") && pageState("delivered")(in)
	})
	d.back(t, gone)
	if h := sk.next(t); h.said() != "resolved NotBackAfterMaintenance " {
		t.Errorf("page: %s", h.said())
	}
	close(over)
	if slipped := <-done; slipped > 0 {
		t.Errorf("%d of %d were let go", slipped, len(alerts))
	}
}

// TestMaintenanceToldAfterCrash: the collector is killed after it has recorded what a maintenance left, and before any of
// it has left.
func TestMaintenanceToldAfterCrash(t *testing.T) {
	sk, places, dir := newSink(t, nil), ownFleet(2, 1, 8), t.TempDir()
	d := startGuarded(t, dir, sk.URL, places)
	m := d.begin(t, 8, `rack="r1"`)
	d.silence(t, places, alerttest.BoardsIn(places, "r1")...)
	d.shown(t, `"maintenance 1"`, 8)
	d.end(t, m)
	d.stop()
	if err := d.pager.mutes.closeMaintenance(d.pager.mutes.maintenances.Current()[0], time.Now()); err != nil {
		t.Fatal(err)
	}

	d = startGuarded(t, dir, sk.URL, places, d.written()...)
	if h := sk.next(t); h.said() != "firing NotBackAfterMaintenance " {
		t.Errorf("page: %s", h.said())
	}
	d.pager.until(t, "left behind", func(in incident.Incident) bool {
		return strings.Contains(in.Title, "8 of 8") && pageState("delivered")(in)
	})
	d.fence(t, sk, "fence")
	if list, err := d.pager.Maintenances().List(t.Context()); err != nil || list[0].State != maintenance.Over || len(list[0].NotBack) != 8 {
		t.Errorf("list %+v, %v", list, err)
	}
}

// TestMaintenanceEndsWhileDown: what came back while no collector ran, or comes back within the grace, pages nobody.
func TestMaintenanceEndsWhileDown(t *testing.T) {
	t.Parallel()
	sk, places, dir := newSink(t, nil), ownFleet(2, 1, 8), t.TempDir()
	d := startGuarded(t, dir, sk.URL, places)
	m, err := d.pager.Maintenances().Start(t.Context(), maintenance.Request{
		Matchers: []string{`rack="r1"`}, For: time.Second, Grace: 3 * time.Second, Confirm: 8, By: "mira",
	})
	if err != nil {
		t.Fatal(err)
	}
	gone := d.silence(t, places, alerttest.BoardsIn(places, "r1")...)
	d.fence(t, sk, "first")
	d.stop()
	<-time.After(time.Until(time.UnixMilli(m.ReturnBy)))

	d = startGuarded(t, dir, sk.URL, places, append(gone, d.written()...)...)
	d.fence(t, sk, "second")
	d.back(t, gone)
	d.fence(t, sk, "third")
	d.waitClosed(t)
	d.fence(t, sk, "fourth")
}

// TestMaintenanceAndMore: what is wider than the maintenance pages, and so does what lies beside it.
func TestMaintenanceAndMore(t *testing.T) {
	t.Parallel()
	sk, places := newSink(t, nil), ownFleet(3, 1, 8)
	d := startGuarded(t, t.TempDir(), sk.URL, places)
	m := d.begin(t, 8, `rack="r1"`)
	d.silence(t, places, alerttest.BoardsIn(places, "r")...)
	if h := sk.next(t); h.said() != "firing BoardSilent collector" { // no board that counts reports
		t.Errorf("page: %s", h.said())
	}
	d.fence(t, sk, "first")
	d.end(t, m)
	d.waitClosed(t)
	d.fence(t, sk, "second") // the wider failure stands for the boards of the maintenance too
}

func (s *stage) waitClosed(t *testing.T) {
	t.Helper()
	s.until(t, "the maintenance is never closed", func() bool { return len(s.pager.Maintenances().Current()) == 0 })
}

// TestMaintenancesOverlap: the last of two tells what both have left, once.
func TestMaintenancesOverlap(t *testing.T) {
	t.Parallel()
	sk, places := newSink(t, nil), ownFleet(2, 2, 8)
	d := startGuarded(t, t.TempDir(), sk.URL, places)
	rack, board := d.begin(t, 16, `rack="r1"`), d.begin(t, 0, `board="r1-b-02"`)
	gone := d.silence(t, places, "r1-b-02", "r1-b-03")
	d.fence(t, sk, "first")
	d.end(t, rack)
	if h := sk.next(t); h.said() != "firing NotBackAfterMaintenance r1-b-03" {
		t.Errorf("page: %s", h.said())
	}
	d.fence(t, sk, "second")
	d.end(t, board)
	if h := sk.next(t); h.said() != "firing NotBackAfterMaintenance r1-b-02" || h.Alerts[0].Labels["maintenance"] != "2" {
		t.Errorf("page: %s", h.said())
	}
	d.back(t, gone[:1])
	if h := sk.next(t); h.said() != "resolved NotBackAfterMaintenance r1-b-02" {
		t.Errorf("page: %s", h.said())
	}
	d.fence(t, sk, "third")
}

// TestSilenceEnds: a silence that ends while boards are down is one page, not one for each of them.
func TestSilenceEnds(t *testing.T) {
	t.Parallel()
	sk, places := newSink(t, nil), ownFleet(2, 2, 8)
	d := startGuarded(t, t.TempDir(), sk.URL, places)
	post := func(comment string, ends time.Time, matcher string) *httptest.ResponseRecorder {
		body := fmt.Sprintf(`{"matchers":[%s],"startsAt":%q,"endsAt":%q,"createdBy":"mira","comment":%q}`, matcher,
			time.Now().UTC().Format(time.RFC3339Nano), ends.UTC().Format(time.RFC3339Nano), comment)
		r := httptest.NewRequest(http.MethodPost, "/api/v2/silences", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		d.pager.Handler().ServeHTTP(w, r)
		return w
	}
	d.running(t)
	rack := `{"name":"rack","value":"r1","isRegex":false,"isEqual":true}`
	for comment, want := range map[string]string{
		"work": `covers 16 of 32 boards, more than 5 % of the fleet`, "confirm 15": `write \"confirm 16\" into its comment`, "confirm 160": "confirm 16",
	} {
		if w := post(comment, time.Now().Add(time.Hour), rack); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), want) {
			t.Errorf("comment %q: %d %s", comment, w.Code, w.Body)
		}
	}
	if w := post("one board", time.Now().Add(time.Hour), `{"name":"board","value":"r2-a-01","isRegex":false}`); w.Code != http.StatusOK {
		t.Errorf("one board: %d %s", w.Code, w.Body)
	}
	if w := post("work, confirm 16", time.Now().Add(3*time.Second), rack); w.Code != http.StatusOK {
		t.Fatalf("confirmed: %d %s", w.Code, w.Body)
	}
	gone := d.silence(t, places, alerttest.BoardsIn(places, "r1")...)
	d.fence(t, sk, "first")
	h := sk.next(t)
	if h.said() != "firing StillFiringAfterSilence " || h.Alerts[0].Labels["rack"] != "r1" {
		t.Errorf("page: %s, labels %v", h.said(), h.Alerts[0].Labels)
	}
	in := d.pager.until(t, "left behind", func(in incident.Incident) bool {
		return strings.Contains(in.Title, "silence") && pageState("delivered")(in)
	})
	if !strings.HasPrefix(in.Title, "Rack r1: 16 boards are still not well after a silence since ") {
		t.Errorf("incident %q", in.Title)
	}
	d.fence(t, sk, "second")
	d.back(t, gone)
	if h := sk.next(t); h.said() != "resolved StillFiringAfterSilence " {
		t.Errorf("page: %s", h.said())
	}
	d.fence(t, sk, "third")
}

func TestMaintenanceRequests(t *testing.T) {
	db := openDB(t, t.TempDir())
	if err := statedb.Ready(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	book, err := maintenance.Open(t.Context(), db, func() map[string]alert.Place { return ownFleet(2, 2, 8) })
	if err != nil {
		t.Fatal(err)
	}
	f := func(want string, change func(*maintenance.Request)) {
		t.Helper()
		q := maintenance.Request{Matchers: []string{`board="r1-a-01"`}, For: time.Hour, By: "mira"}
		change(&q)
		if _, err := book.Start(t.Context(), q); !errors.Is(err, maintenance.ErrBad) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	f("what is it for", func(q *maintenance.Request) { q.Matchers = nil })
	f(`no board has the label "rak"`, func(q *maintenance.Request) { q.Matchers = []string{`rak="r1"`} })
	f(`no board matches {rack="r9"}`, func(q *maintenance.Request) { q.Matchers = []string{`rack="r9"`} })
	f("covers 16 of 32 boards", func(q *maintenance.Request) { q.Matchers = []string{`rack="r1"`} })
	f("add one that names something", func(q *maintenance.Request) { q.Matchers = []string{`rack!="r1"`} })
	f(`matcher rack=~"(": `, func(q *maintenance.Request) { q.Matchers = []string{`rack=~"("`} })
	f("between 1s and 31d", func(q *maintenance.Request) { q.For = 0 })
	f("want now or a time within a year", func(q *maintenance.Request) { q.From = time.Now().Add(-time.Hour) })
	f("longer than 1000 bytes", func(q *maintenance.Request) { q.Comment = strings.Repeat("x", 1001) })
	f("who starts it", func(q *maintenance.Request) { q.By = "" })
	if list, err := book.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("list %v, %v", list, err)
	}
	planned, err := book.Start(t.Context(), maintenance.Request{Matchers: []string{`rack=~"r1|r2"`}, From: time.Now().Add(time.Hour), For: time.Hour, Confirm: 32, By: "mira"})
	if err != nil || planned.State != maintenance.Planned || planned.Boards != 32 {
		t.Errorf("planned %+v, %v", planned, err)
	}
	if gone, err := book.End(t.Context(), planned.Number, "mira"); err != nil || gone.State != maintenance.Over {
		t.Errorf("called off %+v, %v", gone, err)
	}
	if _, err := book.End(t.Context(), planned.Number, "mira"); !errors.Is(err, maintenance.ErrNone) {
		t.Errorf("ended twice: %v", err)
	}
}

func FuzzDecodeSilence(f *testing.F) {
	f.Add([]byte(`{"matchers":[{"name":"rack","value":"r1","isRegex":true,"isEqual":false}],"comment":"confirm 3"}`))
	f.Add([]byte(`{"matchers":[{"name":"a","value":"(","isRegex":true}]}`))
	f.Add([]byte(`{"matchers":[null]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, ms := decodeSilence(body)
		for _, m := range ms {
			m.Matches("r1")
		}
	})
}
