package pager

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/domain"
	"bramble/alerting/incident"
	"bramble/alerting/outbox"
	"bramble/alerting/receivers"
	"bramble/alerting/rules"
)

const testBeat = 300 * time.Millisecond

// beat is one that arrived outside.
type beat struct{ id, as string }

// dog is a watchdog's whole way: rule, engine, domains, pager, and the heartbeat outside.
type dog struct {
	*Pager
	engine  *rules.Engine
	domains *domain.Decider
	beats   chan beat // that arrived
	sick    atomic.Pointer[error]
	dumb    atomic.Bool // the rule gets no readings
	stop    func()
}

func startDog(t *testing.T, dir, config string) *dog {
	t.Helper()
	d := &dog{engine: rules.NewEngine(rules.Default().WithOwn()), beats: make(chan beat, 1000)}
	outside := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		d.beats <- beat{r.Header.Get(receivers.IdempotencyHeader), r.Method + " " + r.Header.Get("Authorization")}
	}))
	t.Cleanup(outside.Close)
	var err error
	d.Pager, err = Open(Options{
		DB: openDB(t, dir), Config: []byte(config), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Watchdog: &WatchdogOptions{URL: outside.URL + "/secret", Token: "t", Every: testBeat, Audits: []Audit{func(time.Time) error {
			if err := d.sick.Load(); err != nil {
				return *err
			}
			return nil
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	d.domains = domain.New(domain.Options{Apply: d.engine.Apply, Firing: d.engine.Firing, Pager: d.Pager, Fleet: func() map[string]alert.Place { return nil },
		Commit: func(ts []alert.Transition) error { d.domains.Deliver(ts); return nil }})
	d.domains.Resume(d.engine.Firing())
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { d.Run(ctx) })
	running.Go(func() { d.domains.Run(ctx) })
	running.Go(func() {
		tick := time.NewTicker(testBeat)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				if !d.dumb.Load() {
					d.domains.Deliver(d.engine.Beat(now))
				}
			}
		}
	})
	d.stop = sync.OnceFunc(func() { cancel(); running.Wait(); d.Close() })
	t.Cleanup(d.stop)
	return d
}

func (d *dog) alive(t *testing.T) {
	t.Helper()
	for range 2 { // one may have been on its way
		select {
		case got := <-d.beats:
			if got.as != "POST Bearer t" {
				t.Fatalf("beat %q", got.as)
			}
		case <-time.After(patience):
			t.Fatalf("no beat within %s", patience)
		}
	}
}

// dead waits until beats are refused for a reason, and sees that none is sent any more. One that left before the first
// refusal may arrive after it.
func (d *dog) dead(t *testing.T, why string) {
	t.Helper()
	timeout := time.After(patience)
	var first time.Time
	for refused := 0; refused < 3; {
		s, _ := d.Watchdog()
		if s.Err != nil && strings.Contains(s.Err.Error(), why) {
			refused++
			for len(d.beats) > 0 && refused == 1 {
				<-d.beats
			}
			if first.IsZero() {
				first = s.Tried
			}
		}
		select {
		case <-timeout:
			t.Fatalf("never refused for %q: %v", why, s.Err)
		case <-time.After(testBeat):
		}
	}
	for before := 0; len(d.beats) > 0; {
		got := <-d.beats
		made, err := strconv.ParseInt(strings.TrimPrefix(got.id, "watchdog-"), 36, 64)
		if before++; err != nil || !time.Unix(0, made).Before(first) || before > 1 {
			t.Errorf("beat %q came, %d so far, although %s since %v", got.id, before, why, first)
		}
	}
}

// TestWatchdog: beats take the whole way, and stop with whatever in it stops.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := startDog(t, dir, "")
	d.alive(t)
	if all, err := d.Incidents(t.Context(), incident.Query{}); err != nil || len(all) != 0 {
		t.Errorf("the watchdog makes incidents: %v %v", all, err)
	}
	if !d.Silent() {
		t.Error("the watchdog counts as somebody who is paged")
	}

	sick := errors.New("the rota has a step that is overdue")
	d.sick.Store(&sick)
	d.dead(t, "step that is overdue")
	d.sick.Store(nil)
	d.alive(t)

	d.dumb.Store(true)
	d.dead(t, "left its rule more than")
	d.dumb.Store(false)
	d.alive(t)

	var rows int
	if err := d.db.QueryRow(`SELECT count(*) FROM page WHERE state = 'waiting'`).Scan(&rows); err != nil || rows > 1 {
		t.Errorf("%d beats wait, %v", rows, err)
	}
	d.stop()
	d = startDog(t, dir, "")
	d.alive(t)

	// A disk that takes nothing: no beat leaves unrecorded.
	if _, err := d.db.Exec(`ALTER TABLE page RENAME TO page_gone`); err != nil {
		t.Fatal(err)
	}
	d.dead(t, "the database takes no page")
	if _, err := d.db.Exec(`ALTER TABLE page_gone RENAME TO page`); err != nil {
		t.Fatal(err)
	}
	d.alive(t)
}

// TestALateStepIsOverdue: a stopped loop leaves steps behind.
func TestALateStepIsOverdue(t *testing.T) {
	db := openDB(t, t.TempDir())
	p, err := Open(Options{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	step := func(late time.Duration) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), `INSERT INTO escalation_step (incident, kind, delay, due_at) VALUES ('i', 'step', 0, ?)`, time.Now().Add(-late).UnixMilli()); err != nil {
			t.Fatal(err)
		}
	}
	step(outbox.LateAfter / 2)
	step(-time.Hour)
	if err := p.overdue(time.Now()); err != nil {
		t.Errorf("on time: %v", err)
	}
	step(2 * outbox.LateAfter)
	if err := p.overdue(time.Now()); err == nil || !strings.Contains(err.Error(), "step of incident i is overdue by 1m") {
		t.Errorf("late: %v", err)
	}
}

// TestOverdue: what the audit calls overdue.
func TestOverdue(t *testing.T) {
	s := newSink(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "down", http.StatusServiceUnavailable)
	})
	p := startPager(t, openDB(t, t.TempDir()), oneSink(s.URL, ""), nil)
	now := time.Now()
	p.Deliver([]alert.Transition{alerttest.Fire("b1", now)})
	p.until(t, "refused", func(in incident.Incident) bool { return in.Pages[0].Attempts > 0 })
	if err := p.overdue(time.Now()); err != nil {
		t.Errorf("after one try: %v", err)
	}
	if err := p.outbox.Overdue(now.Add(5*time.Minute + time.Second)); err == nil || !strings.Contains(err.Error(), "hook/webhook/0 has not taken page") {
		t.Errorf("a receiver that refuses for 5 min: %v", err)
	}
	if err := p.outbox.Overdue(now.Add(outbox.MaxBackoff + outbox.LateAfter + time.Second)); err == nil || !strings.Contains(err.Error(), "is overdue by") {
		t.Errorf("a page that nobody tries: %v", err)
	}
	s.answerWith(nil)
	p.until(t, "delivered", pageState("delivered"))
	if err := p.outbox.Overdue(now.Add(time.Hour)); err != nil {
		t.Errorf("delivered: %v", err)
	}
	p.inbox.fed.Store(now.UnixMilli())
	if err := p.overdue(now.Add(outbox.LateAfter + time.Minute)); err == nil || !strings.Contains(err.Error(), "have not been taken in") {
		t.Errorf("a feed that hangs: %v", err)
	}
	lost := alerttest.Fire("b2", now)
	lost.Received = now.UnixMilli()
	p.inbox.mu.Lock()
	p.inbox.fires(lost) // and not put into Alertmanager's store
	p.inbox.mu.Unlock()
	if err := p.unnotified(now.Add(time.Minute)); err != nil {
		t.Errorf("too early: %v", err)
	}
	if err := p.unnotified(now.Add(time.Hour)); err == nil || !strings.Contains(err.Error(), `SocHot board="b2" fires since`) {
		t.Errorf("an alert without a page: %v", err)
	}
}
