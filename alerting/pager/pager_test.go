package pager

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/alerttest/readings"
	"bramble/alerting/escalation"
	"bramble/alerting/incident"
	"bramble/alerting/outbox"
	"bramble/alerting/receivers"
)

func TestMain(m *testing.M) {
	runChild()
	setParallel()
	// Imported packages start some in their init, the store's engine some for the whole process when it is first used.
	goleak.VerifyTestMain(m, append(readings.Goroutines(), goleak.IgnoreCurrent())...)
}

// setParallel lets more tests run at once than there are processors, where -parallel does not say otherwise: those that do
// wait nearly all of their time.
func setParallel() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return
	}
	if err := flag.Set("test.parallel", "10"); err != nil {
		panic(err)
	}
}

func openDB(t testing.TB, dir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "state.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// hook is one request that a sink received.
type hook struct {
	at     time.Time
	id     string
	path   string
	Status string
	Alerts []struct {
		Status       string
		Labels       map[string]string
		Annotations  map[string]string
		GeneratorURL string
	}
}

// boards lists "status board" of the alerts, sorted.
func (h hook) boards() string {
	var out []string
	for _, a := range h.Alerts {
		out = append(out, a.Status+" "+a.Labels["board"])
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// sink is a real webhook receiver; answer decides what it does with the n-th request, from 1 on.
type sink struct {
	*httptest.Server
	got  chan hook
	seen []hook

	mu     sync.Mutex
	n      int
	answer func(n int, w http.ResponseWriter, r *http.Request)
}

// patience ends a test that hangs. How soon things happen is judged by fake time and benchmarks: a machine that tests much at
// once is slow.
const patience = 3 * time.Minute

func newSink(t testing.TB, answer func(n int, w http.ResponseWriter, r *http.Request)) *sink {
	s := &sink{got: make(chan hook, 10000), answer: answer}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := hook{at: time.Now(), id: r.Header.Get("Idempotency-Key"), path: r.URL.Path}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // who sent it was killed
	}
	if err := json.Unmarshal(body, &h); err != nil {
		panic(err)
	}
	s.mu.Lock()
	s.n++
	n, answer := s.n, s.answer
	s.mu.Unlock()
	s.got <- h
	if answer != nil {
		answer(n, w, r)
	}
}

func (s *sink) answerWith(answer func(n int, w http.ResponseWriter, r *http.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// next waits for the next request.
func (s *sink) next(t testing.TB) hook {
	t.Helper()
	select {
	case h := <-s.got:
		return h
	case <-time.After(patience):
		t.Fatalf("no request within %s", patience)
		return hook{}
	}
}

// none fails if a request arrived.
func (s *sink) none(t testing.TB, why string) {
	t.Helper()
	select {
	case h := <-s.got:
		t.Errorf("%s: got %s", why, h.boards())
	default:
	}
}

// oneSink routes everything to url, by alert and board.
func oneSink(url, more string) []byte {
	return []byte(fmt.Sprintf(`
route: {receiver: hook, group_by: [alertname, board], group_wait: 0s, group_interval: 1s, repeat_interval: 4h}
receivers:
- name: hook
  webhook_configs: [{url: %q}]
%s`, url, more))
}

// testPager is a running pager and what it said.
type testPager struct {
	*Pager
	changes chan incident.Incident
	stop    func()
}

// startPager opens and runs a pager; before runs between the two.
func startPager(t testing.TB, db *sql.DB, config []byte, before func(*Pager)) *testPager {
	t.Helper()
	changes := make(chan incident.Incident, 100000)
	p, err := Open(Options{
		DB: db, Config: config, ExternalURL: "http://collector.example", Changed: func(in incident.Incident) { changes <- in },
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		t.Fatal(err)
	}
	if before != nil {
		before(p)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return &testPager{p, changes, stop}
}

// until waits for an incident that satisfies ok.
func (p *testPager) until(t testing.TB, what string, ok func(incident.Incident) bool) incident.Incident {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case in := <-p.changes:
			if ok(in) {
				return in
			}
		case <-timeout:
			t.Fatalf("no incident that is %s within %s", what, patience)
		}
	}
}

func pageState(state string) func(incident.Incident) bool {
	return func(in incident.Incident) bool { return len(in.Pages) > 0 && in.Pages[len(in.Pages)-1].State == state }
}

func TestPage(t *testing.T) {
	s := newSink(t, nil)
	p := startPager(t, openDB(t, t.TempDir()), oneSink(s.URL, ""), nil)
	t0 := time.Now()
	p.Deliver([]alert.Transition{alerttest.Fire("b1", t0)})
	h := s.next(t)
	if h.boards() != "firing b1" || h.id == "" {
		t.Errorf("got %s with id %q", h.boards(), h.id)
	}
	in := p.until(t, "delivered", pageState("delivered"))
	pg := in.Pages[0]
	if in.Title != "b1: SoC at 81.0 °C since "+t0.UTC().Format("15:04:05 UTC") || in.Severity != "critical" || in.StartedAt != t0.UnixMilli() || in.ResolvedAt != 0 {
		t.Errorf("incident %+v", in)
	}
	if pg.ID != h.id || pg.Attempts != 1 || pg.Error != "" || pg.LatencyMs < 0 || pg.LatencyMs > 2000 {
		t.Errorf("page %+v", pg)
	}
	p.Deliver([]alert.Transition{alerttest.Resolve(alerttest.Fire("b1", t0), time.Now())})
	if h := s.next(t); h.boards() != "resolved b1" {
		t.Errorf("got %s", h.boards())
	}
	in = p.until(t, "resolved and delivered", func(in incident.Incident) bool { return in.ResolvedAt != 0 && pageState("delivered")(in) })
	if len(in.Pages) != 2 || in.Pages[0].ID == in.Pages[1].ID {
		t.Errorf("pages %+v", in.Pages)
	}
	s.none(t, "after the resolve")
	all, err := p.Incidents(t.Context(), incident.Query{})
	if err != nil || len(all) != 1 {
		t.Errorf("incidents %v %v", all, err)
	}
	if open, err := p.Incidents(t.Context(), incident.Query{Open: true}); err != nil || len(open) != 0 {
		t.Errorf("open incidents %v %v", open, err)
	}
}

// TestResolveWaits: what resolves before its page was handed over still pages, then resolves.
func TestResolveWaits(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	config := strings.Replace(string(oneSink(s.URL, "")), "group_wait: 0s", "group_wait: 1s", 1)
	p := startPager(t, openDB(t, t.TempDir()), []byte(config), nil)
	f := alerttest.Fire("b1", time.Now())
	p.Deliver([]alert.Transition{f, alerttest.Resolve(f, time.Now().Add(time.Millisecond))})
	if h := s.next(t); h.boards() != "firing b1" {
		t.Errorf("got %s", h.boards())
	}
	if h := s.next(t); h.boards() != "resolved b1" {
		t.Errorf("got %s", h.boards())
	}
}

func TestProviderFaults(t *testing.T) {
	t.Parallel()
	f := func(name string, answer func(n int, w http.ResponseWriter, r *http.Request), wantAnswer string) {
		t.Run(name, func(t *testing.T) {
			s := newSink(t, answer)
			p := startPager(t, openDB(t, t.TempDir()), oneSink(s.URL, ""), nil)
			p.Deliver([]alert.Transition{alerttest.Fire("b1", time.Now())})
			first := s.next(t)
			in := p.until(t, "tried", func(in incident.Incident) bool { return len(in.Pages) == 1 && in.Pages[0].Attempts == 1 })
			if in.Pages[0].State != "waiting" || !strings.Contains(in.Pages[0].Error, wantAnswer) {
				t.Errorf("after the first try: %+v", in.Pages[0])
			}
			if second := s.next(t); second.id != first.id {
				t.Errorf("ids differ: %s, %s", first.id, second.id)
			}
			if in := p.until(t, "delivered", pageState("delivered")); in.Pages[0].Attempts != 2 {
				t.Errorf("page %+v", in.Pages[0])
			}
		})
	}
	f("503", func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			http.Error(w, "come back later", http.StatusServiceUnavailable)
		}
	}, "503")
	f("connection cut", func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			c, _, _ := w.(http.Hijacker).Hijack()
			c.Close()
		}
	}, "EOF")
	f("hangs", func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			<-r.Context().Done()
		}
	}, "no answer within 5s")
}

// TestHangingProvider: one that hangs delays no other receiver, and pages of other incidents to the same one.
func TestHangingProvider(t *testing.T) {
	release := make(chan struct{})
	bad := newSink(t, func(_ int, _ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	defer close(release)
	good := newSink(t, nil)
	p := startPager(t, openDB(t, t.TempDir()), []byte(fmt.Sprintf(`
route: {receiver: both, group_by: [board], group_wait: 0s, group_interval: 1s}
receivers:
- name: both
  webhook_configs: [{url: %q}, {url: %q}]
`, bad.URL, good.URL)), nil)
	for _, b := range []string{"b1", "b2", "b3"} {
		t0 := time.Now()
		p.Deliver([]alert.Transition{alerttest.Fire(b, t0)})
		if d := good.next(t).at.Sub(t0); d >= receivers.TryTimeout {
			t.Errorf("%s waited %s behind a provider that hangs", b, d)
		}
		bad.next(t)
	}
}

// idle is a pager whose loops do not run: the test tries its letters.
type idle struct {
	*Pager
	t *testing.T
}

func newIdle(t *testing.T, url, interval string) *idle {
	t.Helper()
	p, err := Open(Options{DB: openDB(t, t.TempDir()), Config: []byte(strings.Replace(string(oneSink(url, "")), "group_interval: 1s", "group_interval: "+interval, 1))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return &idle{p, t}
}

// message writes a message about a board's incident, which is open.
func (p *idle) message(board string, reason notify.NotifyReason) *outbox.Message {
	p.t.Helper()
	now := time.Now()
	in := &incident.Incident{ID: board, GroupKey: board, Receiver: "hook", Title: board, StartedAt: now.UnixMilli(), OpenedAt: now.UnixMilli()}
	if reason == notify.ReasonAllAlertsResolved {
		in.ResolvedAt = now.UnixMilli()
	}
	a := amAlert(alerttest.Fire(board, now))
	in.Alerts = []incident.Alert{escalation.AlertOf(a)}
	l, err := escalation.NewMessage(in.ID, "hook", p.routing.Load().set.Only("hook"), board, reason, outbox.Body{Now: now, Alerts: []*amalert.Alert{a}}, now.UnixMilli())
	if err != nil {
		p.t.Fatal(err)
	}
	l.ID = fmt.Sprint(board, "-", int(reason))
	if err := errors.Join(incident.Save(p.t.Context(), p.db, in), l.Insert(p.t.Context(), p.db, "waiting")); err != nil {
		p.t.Fatal(err)
	}
	p.outbox.Add([]*outbox.Message{l})
	return l
}

// tried tries a message at once and returns the state that it came to, and how long it waits now.
func (p *idle) tried(l *outbox.Message) (state string, wait time.Duration) {
	p.t.Helper()
	l.Begin(time.Now())
	p.courier(p.pages, p.outbox).try(p.t.Context(), l)
	if err := p.db.QueryRowContext(p.t.Context(), `SELECT state FROM page WHERE id = ?`, l.ID).Scan(&state); err != nil {
		p.t.Fatal(err)
	}
	return state, time.Until(time.UnixMilli(l.NextAt))
}

// firstWait is the shortest wait before another try.
const firstWait = 500 * time.Millisecond

// A receiver that answers 404 or refuses the credentials gets the page when it is mended: the tries go on, at the group_interval
// or 5 min apart at most, for as long as the alert fires.
func TestARefusedPageIsTriedUntilItIsTaken(t *testing.T) {
	t.Parallel()
	f := func(interval string, longest time.Duration) {
		t.Helper()
		s := newSink(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no such topic", http.StatusNotFound)
		})
		p := newIdle(t, s.URL, interval)
		l := p.message("b1", notify.ReasonFirstNotification)
		for n := 1; n <= 14; n++ {
			if state, wait := p.tried(l); state != "waiting" || wait > longest || n > 12 && wait < longest/4 {
				t.Fatalf("group_interval %s: after try %d %s for %s", interval, n, state, wait)
			}
		}
		l.CreatedAt = time.Now().Add(-48 * time.Hour).UnixMilli()
		if state, _ := p.tried(l); state != "waiting" {
			t.Errorf("group_interval %s: after two days %s though it fires", interval, state)
		}
		s.answerWith(nil)
		if state, _ := p.tried(l); state != "delivered" {
			t.Errorf("group_interval %s: mended: %s", interval, state)
		}
	}
	f("10s", 10*time.Second)
	f("1h", maxRefusedBackoff)
}

// When another page goes through, what was refused is tried at once; so it is when the group has more to say, and after a reload.
// Retry-After is obeyed all the same.
func TestARefusedPageLeavesWhenTheReceiverWorksAgain(t *testing.T) {
	t.Parallel()
	status := http.StatusUnauthorized
	s := newSink(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		if status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "120")
		}
		w.WriteHeader(status)
	})
	p := newIdle(t, s.URL, "1h")
	b1, b2 := p.message("b1", notify.ReasonFirstNotification), p.message("b2", notify.ReasonFirstNotification)
	wait := func(l *outbox.Message) time.Duration { return time.Until(time.UnixMilli(l.NextAt)) }
	later := func() {
		t.Helper()
		if state, _ := p.tried(b1); state != "waiting" {
			t.Fatalf("refused: %s", state)
		}
		if status == http.StatusUnauthorized {
			b1.NextAt = time.Now().Add(maxRefusedBackoff).UnixMilli()
		}
	}
	later()
	p.message("b1", notify.ReasonNewAlertsInGroup)
	if d := wait(b1); d > firstWait {
		t.Errorf("the group has more to say: tried in %s", d)
	}
	later()
	if err := p.Reload(oneSink(s.URL, "")); err != nil || wait(b1) > firstWait {
		t.Errorf("after a reload: tried in %s, %v", wait(b1), err)
	}
	later()
	status = http.StatusOK
	if state, _ := p.tried(b2); state != "delivered" {
		t.Fatalf("the other page is %s", state)
	}
	if d := wait(b1); d > firstWait {
		t.Errorf("another page was taken: tried in %s", d)
	}
	status = http.StatusTooManyRequests
	later()
	status = http.StatusOK
	p.tried(p.message("b3", notify.ReasonFirstNotification))
	if d := wait(b1); d < 100*time.Second || d > 120*time.Second {
		t.Errorf("with Retry-After: 120 it is tried in %s", d)
	}
}

// A page that was refused is not sent once its alert is over; the resolve is tried for a day.
func TestARefusedPageEndsWithItsAlert(t *testing.T) {
	t.Parallel()
	s := newSink(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	p := newIdle(t, s.URL, "1h")
	l := p.message("b1", notify.ReasonFirstNotification)
	if state, _ := p.tried(l); state != "waiting" {
		t.Fatalf("refused: %s", state)
	}
	s.next(t)
	end := p.message("b1", notify.ReasonAllAlertsResolved)
	if state, _ := p.tried(l); state != "stopped" {
		t.Errorf("over: %s", state)
	}
	s.none(t, "sent though it is over")
	for range 7 {
		if state, _ := p.tried(end); state != "waiting" {
			t.Fatalf("the resolve is %s", state)
		}
	}
	end.CreatedAt = time.Now().Add(-25 * time.Hour).UnixMilli()
	if state, _ := p.tried(end); state != "failed" {
		t.Errorf("the resolve is %s after a day", state)
	}
}

// That a receiver fails never goes by that receiver alone, or by a policy all of whose channels fail.
func TestAFailingReceiverIsToldByAnother(t *testing.T) {
	t.Parallel()
	failing := func(receiver string) alert.Transition {
		tr := alerttest.Fire("", time.Now())
		tr.Labels = map[string]string{"alertname": "NotificationFailing", "receiver": receiver, "integration": "webhook", "severity": "critical"}
		return tr
	}
	bad, good := newSink(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }), newSink(t, nil)
	config := func(route string) []byte {
		return fmt.Appendf(nil, `
route: {receiver: bad, group_by: [alertname], group_wait: 0s, group_interval: 1s%s}
receivers:
- {name: people}
- {name: bad, webhook_configs: [{url: %q}]}
- {name: good, webhook_configs: [{url: %q}]}
`, route, bad.URL, good.URL)
	}
	run := func(config []byte, onCall string) *testPager {
		t.Helper()
		return startPager(t, openDB(t, t.TempDir()), config, func(p *Pager) {
			if err := p.ReloadWithOnCall(config, []byte(onCall)); err != nil {
				t.Fatal(err)
			}
		})
	}
	p := run(config(""), "")
	alarm := failing("bad")
	p.Deliver([]alert.Transition{alarm})
	if h := good.next(t); h.Status != "firing" || h.Alerts[0].Labels["receiver"] != "bad" {
		t.Errorf("the other receiver got %+v", h)
	}
	in := p.until(t, "told by both", func(in incident.Incident) bool { return len(in.Pages) == 2 && in.Pages[1].State == "delivered" })
	if in.Pages[0].Receiver != "bad" || in.Pages[1].Receiver != "good" {
		t.Errorf("pages %+v", in.Pages)
	}
	p.Deliver([]alert.Transition{alerttest.Resolve(alarm, time.Now())})
	if h := good.next(t); h.Status != "resolved" {
		t.Errorf("the other receiver got %+v", h)
	}
	p.stop()
	// A route to another receiver is enough, and another alert stays where its route leads.
	p = run(config(`, routes: [{receiver: good, matchers: [alertname = NotificationFailing]}]`), "")
	p.Deliver([]alert.Transition{failing("bad"), alerttest.Fire("b1", time.Now())})
	p.until(t, "told once", func(in incident.Incident) bool {
		return in.Receiver == "bad" && len(in.Pages) == 1 && in.Pages[0].Attempts > 0
	})
	if h := good.next(t); h.Alerts[0].Labels["alertname"] != "NotificationFailing" {
		t.Errorf("the other receiver got %+v", h)
	}
	p.stop()
	good.none(t, "told twice")
	p = run([]byte(strings.Replace(string(config("")), "receiver: bad", "receiver: people", 1)), `
people: [{name: ada, channels: [{receiver: bad}]}]
policies: [{name: p, receivers: [people], steps: [{notify: [ada], wait: 5m}]}]
`)
	p.Deliver([]alert.Transition{failing("bad")})
	if h := good.next(t); h.Alerts[0].Labels["receiver"] != "bad" {
		t.Errorf("the other receiver got %+v", h)
	}
}

// TestJournalBroken: a page that cannot be written down leaves all the same.
func TestJournalBroken(t *testing.T) {
	s := newSink(t, nil)
	db := openDB(t, t.TempDir())
	p := startPager(t, db, oneSink(s.URL, ""), nil)
	if _, err := db.Exec("DROP TABLE page"); err != nil {
		t.Fatal(err)
	}
	p.Deliver([]alert.Transition{alerttest.Fire("b1", time.Now())})
	if h := s.next(t); h.boards() != "firing b1" || h.id != "" {
		t.Errorf("got %s with id %q", h.boards(), h.id)
	}
	o := startOnCall(t, channelsTo(s.URL, "ada-ntfy"), oneAda)
	if _, err := o.db.Exec("DROP TABLE page"); err != nil {
		t.Fatal(err)
	}
	o.Deliver([]alert.Transition{alerttest.Fire("b2", time.Now())})
	for h := s.next(t); h.path != "/ada-ntfy"; h = s.next(t) {
		if h.boards() != "firing b1" { // the first pager tries again
			t.Errorf("got %s at %s", h.boards(), h.path)
		}
	}
}

// TestGroup: alerts of one group are one incident with a title that counts.
func TestGroup(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	config := strings.Replace(string(oneSink(s.URL, "")), "group_by: [alertname, board]", "group_by: [alertname, rack]", 1)
	p := startPager(t, openDB(t, t.TempDir()), []byte(config), nil)
	t0 := time.Now()
	var ts []alert.Transition
	for _, b := range []string{"b1", "b2", "b3", "b4"} {
		ts = append(ts, alerttest.Fire(b, t0))
	}
	p.Deliver(ts)
	in := p.until(t, "complete", func(in incident.Incident) bool { return len(in.Alerts) == 4 })
	if want := "SocHot on 4 boards (b1, b2, b3, …), rack r1 since " + t0.UTC().Format("15:04:05 UTC"); in.Title != want {
		t.Errorf("title %q, want %q", in.Title, want)
	}
	p.Deliver([]alert.Transition{alerttest.Resolve(ts[0], time.Now())})
	in = p.until(t, "partly resolved", func(in incident.Incident) bool { return firing(&in) == 3 })
	if in.ResolvedAt != 0 {
		t.Error("resolved while three boards fire")
	}
}

func TestAcknowledge(t *testing.T) {
	t.Parallel()
	s, dir := newSink(t, nil), t.TempDir()
	config := []byte(strings.Replace(string(oneSink(s.URL, "")), "repeat_interval: 4h", "repeat_interval: 1s", 1))
	db := openDB(t, dir)
	p := startPager(t, db, config, nil)
	f := alerttest.Fire("b1", time.Now())
	p.Deliver([]alert.Transition{f})
	s.next(t)
	if h := s.next(t); h.boards() != "firing b1" {
		t.Errorf("the repeat is %s", h.boards())
	}
	in := p.until(t, "delivered", pageState("delivered"))
	if err := p.Acknowledge(t.Context(), in.ID, "ada", "on my way"); err != nil {
		t.Fatal(err)
	}
	acked := p.until(t, "acknowledged", func(in incident.Incident) bool { return in.Ack != nil })
	if acked.Ack.By != "ada" || acked.Ack.Comment != "on my way" {
		t.Errorf("ack %+v", acked.Ack)
	}
	if err := p.Acknowledge(t.Context(), "nope", "ada", ""); err == nil || !strings.Contains(err.Error(), "nope") {
		t.Errorf("got %v", err)
	}
	p.stop()
	for len(s.got) > 0 { // what was on its way
		<-s.got
	}
	p = startPager(t, db, config, func(p *Pager) { p.Resume([]alert.Transition{f}, nil) })
	// The group flushes every second and repeats every second; a suppressed repeat is a change of the incident.
	for range 2 {
		p.until(t, "flushed", func(in incident.Incident) bool { return in.Ack != nil })
	}
	s.none(t, "repeat after the ack")
	p.Deliver([]alert.Transition{alerttest.Resolve(f, time.Now())})
	if h := s.next(t); h.boards() != "resolved b1" {
		t.Errorf("after the ack got %s", h.boards())
	}
}

// TestAwayForDays: a collector that was away for longer than the notification log remembers repeats what nobody has
// acknowledged, and nothing else.
func TestAwayForDays(t *testing.T) {
	t.Parallel()
	s, db := newSink(t, nil), openDB(t, t.TempDir())
	config := oneSink(s.URL, "")
	p := startPager(t, db, config, nil)
	b1, b2 := alerttest.Fire("b1", time.Now()), alerttest.Fire("b2", time.Now())
	p.Deliver([]alert.Transition{b1, b2})
	s.next(t)
	s.next(t)
	for range 2 {
		p.until(t, "delivered", pageState("delivered"))
	}
	if err := p.Acknowledge(t.Context(), p.about(t, "b1").ID, "ada", ""); err != nil {
		t.Fatal(err)
	}
	p.stop()
	if _, err := db.Exec("DELETE FROM alert_notified"); err != nil { // as prepare does by then
		t.Fatal(err)
	}
	p = startPager(t, db, config, func(p *Pager) { p.Resume([]alert.Transition{b1, b2}, nil) })
	if h := s.next(t); h.boards() != "firing b2" {
		t.Errorf("after the start got %s", h.boards())
	}
	handed := func() (n int) {
		if err := db.QueryRow("SELECT count(*) FROM alert_notified").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for deadline := time.Now().Add(patience); handed() < 2; <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the acknowledged alert is not handed over")
		}
	}
	p.Deliver([]alert.Transition{alerttest.Fire("b3", time.Now())})
	if h := s.next(t); h.boards() != "firing b3" {
		t.Errorf("then got %s", h.boards())
	}
	s.none(t, "of what is acknowledged")
}

// TestResume: what ended while the pager was away is resolved, what still fires is not paged again.
func TestResume(t *testing.T) {
	s, dir := newSink(t, nil), t.TempDir()
	db := openDB(t, dir)
	config := oneSink(s.URL, "")
	p := startPager(t, db, config, nil)
	b1, b2 := alerttest.Fire("b1", time.Now()), alerttest.Fire("b2", time.Now())
	p.Deliver([]alert.Transition{b1, b2})
	s.next(t)
	s.next(t)
	for range 2 {
		p.until(t, "delivered", pageState("delivered"))
	}
	p.stop()
	p = startPager(t, db, config, func(p *Pager) { p.Resume([]alert.Transition{b1}, nil) })
	if h := s.next(t); h.boards() != "resolved b2" {
		t.Errorf("after the restart got %s", h.boards())
	}
	p.until(t, "resolved", func(in incident.Incident) bool { return in.ResolvedAt != 0 && pageState("delivered")(in) })
	p.stop()
	// A replay of the whole journal pages nobody again.
	p = startPager(t, db, config, func(p *Pager) {
		p.Deliver([]alert.Transition{b1, b2, alerttest.Resolve(b2, time.Now())})
		p.Resume([]alert.Transition{b1}, nil)
	})
	p.Deliver([]alert.Transition{alerttest.Fire("b3", time.Now())})
	if h := s.next(t); h.boards() != "firing b3" {
		t.Errorf("after the replay got %s", h.boards())
	}
	s.none(t, "after the replay")
}

func TestReload(t *testing.T) {
	s := newSink(t, nil)
	p := startPager(t, openDB(t, t.TempDir()), nil, nil)
	if !p.Silent() {
		t.Error("the built-in configuration claims to page")
	}
	p.Deliver([]alert.Transition{alerttest.Fire("b1", time.Now())})
	p.until(t, "recorded", func(in incident.Incident) bool { return len(in.Pages) == 0 })
	for _, bad := range []string{"route: {receiver: x}", "rout: {}", "::", "route: {receiver: x}\nreceivers: [{name: x, webhook_configs: [{}]}]"} {
		if err := p.Reload([]byte(bad)); err == nil || !strings.HasPrefix(err.Error(), "alertmanager.yml: ") {
			t.Errorf("%s: got %v", bad, err)
		}
	}
	if err := p.Reload(oneSink(s.URL, "")); err != nil {
		t.Fatal(err)
	}
	if p.Silent() {
		t.Error("the new configuration claims not to page")
	}
	if h := s.next(t); h.boards() != "firing b1" {
		t.Errorf("after the reload got %s", h.boards())
	}
}

func TestInhibition(t *testing.T) {
	s := newSink(t, nil)
	p := startPager(t, openDB(t, t.TempDir()), oneSink(s.URL, `
inhibit_rules:
- source_matchers: [alertname="SwitchDown"]
  target_matchers: [alertname="SocHot"]
  equal: [rack]
`), nil)
	sw := alerttest.Fire("", time.Now())
	sw.Rule, sw.Labels = "x/SwitchDown", map[string]string{"alertname": "SwitchDown", "rack": "r1"}
	p.Deliver([]alert.Transition{sw})
	s.next(t)
	p.Deliver([]alert.Transition{alerttest.Fire("b1", time.Now())})
	other := alerttest.Fire("b2", time.Now())
	other.Labels["rack"] = "r2"
	p.Deliver([]alert.Transition{other})
	if h := s.next(t); h.boards() != "firing b2" {
		t.Errorf("got %s", h.boards())
	}
	s.none(t, "inhibited")
}

// TestAPI speaks as amtool does.
func TestAPI(t *testing.T) {
	s, dir := newSink(t, nil), t.TempDir()
	db := openDB(t, dir)
	p := startPager(t, db, oneSink(s.URL, ""), nil)
	call := func(p *testPager, method, path, body string) (int, string) {
		srv := httptest.NewServer(p.Handler())
		defer srv.Close()
		req, _ := http.NewRequest(method, srv.URL+path, strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	running := func(p *testPager) {
		for code, _ := call(p, "GET", "/api/v2/status", ""); code == http.StatusServiceUnavailable; {
			code, _ = call(p, "GET", "/api/v2/status", "")
		}
	}
	running(p)
	now := time.Now().UTC()
	code, body := call(p, "POST", "/api/v2/silences", fmt.Sprintf(
		`{"matchers":[{"name":"board","value":"b1","isRegex":false,"isEqual":true}],"startsAt":%q,"endsAt":%q,"createdBy":"ada","comment":"fan swap"}`,
		now.Format(time.RFC3339Nano), now.Add(time.Hour).Format(time.RFC3339Nano)))
	if code != 200 {
		t.Fatalf("silence: %d %s", code, body)
	}
	p.stop()
	p = startPager(t, db, oneSink(s.URL, ""), nil)
	running(p)
	if code, body := call(p, "GET", "/api/v2/silences", ""); code != 200 || !strings.Contains(body, "fan swap") || !strings.Contains(body, `"active"`) {
		t.Errorf("after the restart: %d %s", code, body)
	}
	p.Deliver([]alert.Transition{alerttest.Fire("b1", time.Now())})
	p.Deliver([]alert.Transition{alerttest.Fire("b2", time.Now())})
	if h := s.next(t); h.boards() != "firing b2" {
		t.Errorf("got %s", h.boards())
	}
	s.none(t, "silenced")
	code, body = call(p, "GET", "/api/v2/alerts?silenced=true", "")
	if code != 200 || !strings.Contains(body, `"board":"b1"`) || !strings.Contains(body, `"suppressed"`) {
		t.Errorf("alerts: %d %s", code, body)
	}
	if code, body := call(p, "GET", "/api/v2/alerts/groups", ""); code != 200 || !strings.Contains(body, `"b2"`) {
		t.Errorf("groups: %d %s", code, body)
	}
	if code, body := call(p, "GET", "/api/v2/status", ""); code != 200 || !strings.Contains(body, "hook") {
		t.Errorf("status: %d %s", code, body)
	}
}

// BenchmarkPage measures Deliver → request received by a webhook, syncs included.
func BenchmarkPage(b *testing.B) {
	s := newSink(b, nil)
	p := startPager(b, openDB(b, b.TempDir()), oneSink(s.URL, ""), nil)
	var took []time.Duration
	i := 0
	for b.Loop() {
		i++
		t0 := time.Now()
		p.Deliver([]alert.Transition{alerttest.Fire(fmt.Sprint("b", i), t0)})
		took = append(took, s.next(b).at.Sub(t0))
		p.until(b, "delivered", pageState("delivered"))
	}
	report(b, took)
}

// BenchmarkPages500 measures 500 boards that cross at once, each a page of its own.
func BenchmarkPages500(b *testing.B) {
	s := newSink(b, nil)
	p := startPager(b, openDB(b, b.TempDir()), oneSink(s.URL, ""), nil)
	var took []time.Duration
	n := 0
	for b.Loop() {
		var ts []alert.Transition
		t0 := time.Now()
		for range 500 {
			n++
			ts = append(ts, alerttest.Fire(fmt.Sprint("b", n), t0))
		}
		p.Deliver(ts)
		for range ts {
			took = append(took, s.next(b).at.Sub(t0))
		}
	}
	report(b, took)
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
}

// Numbers of incidents are what people say on the phone: none is left out.
func TestIncidentsAreNumberedWithoutGaps(t *testing.T) {
	p, err := Open(Options{DB: openDB(t, t.TempDir())})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for i, id := range []string{"a", "a", "a", "b", "a", "c"} {
		if err := incident.Save(t.Context(), p.db, &incident.Incident{ID: id, Title: "now " + strconv.Itoa(i), OpenedAt: 1}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := incident.Find(t.Context(), p.db, "ORDER BY number")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, in := range got {
		all = append(all, fmt.Sprint(in.Number, " ", in.ID, " ", in.Title))
	}
	if want := []string{"1 a now 4", "2 b now 3", "3 c now 5"}; !slices.Equal(all, want) {
		t.Errorf("%q, want %q", all, want)
	}
}

// firing counts the alerts of an incident that fire.
func firing(in *incident.Incident) (n int) {
	for _, a := range in.Alerts {
		if a.EndsAt == 0 {
			n++
		}
	}
	return n
}
