package ingest

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting/alert"
	"bramble/dashboards/live"
	"bramble/pisensor/report"
	"bramble/storage"
)

// panics is how many were counted.
func panics(t testing.TB, metrics *prometheus.Registry) float64 {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "bramble_ingest_panics_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatal("panics are not counted")
	return 0
}

// A fault that one board's report brings out costs that report: not the
// process, nor the other boards', nor the queries' time, nor a page that the
// rules had decided by then.
func TestPanicCostsOneMessage(t *testing.T) {
	metrics := prometheus.NewRegistry()
	c := startWith(t, t.TempDir(), startNATS(t), Options{Registerer: metrics, Live: func(board string, _ int64, values []live.Value) {
		if board == "bad" && values[0].Series == "pi_soc_temperature_celsius" {
			panic("not prepared for this")
		}
	}})
	c.addBoard("bad", nil)
	c.addBoard("pi-1", nil)
	now := time.Now()
	for i := range 3 {
		c.publish("bad", hot(uint64(i+1), now.Add(time.Duration(i)*time.Millisecond), 85))
	}
	c.publish("pi-1", hot(1, now, 50))
	c.expectAck(1, 1) // of the other board
	if n := panics(t, metrics); n != 3 {
		t.Errorf("%v panics counted, want 3", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c.CaughtUp(ctx)
	if ctx.Err() != nil {
		t.Error("queries wait for rows that never come")
	}
	c.committed()
	if got := c.transitions("Hot"); len(got) == 0 || got[0] != "firing" {
		t.Errorf("delivered %v: the page of a report that met a fault is lost", got)
	}
}

// A fault where silence is decided takes nobody's page: presence is made anew, as after a start, and goes on.
func TestPanicInPresence(t *testing.T) {
	metrics := prometheus.NewRegistry()
	var broken atomic.Bool
	c := startWith(t, t.TempDir(), startNATS(t), Options{Registerer: metrics, Address: func(string) netip.Addr {
		if broken.Load() {
			panic("not prepared for this")
		}
		return netip.Addr{}
	}})
	now := time.Now()
	c.look(now)
	for _, name := range []string{"pi-1", "pi-2"} {
		c.addBoard(name, map[string]string{"rack": "r1"})
		r := hot(1, now, 50)
		r.Due = 10_000
		c.publish(name, r)
		c.ack()
	}
	at := func(from, to time.Duration) {
		for d := from; d <= to; d += 4 * time.Second {
			c.look(now.Add(d))
		}
	}
	at(time.Second, 25*time.Second)
	c.back("pi-2", now.Add(29*time.Second))
	broken.Store(true)
	at(29*time.Second, 33*time.Second) // when pi-1 is overdue, and its address is to be probed
	if n := panics(t, metrics); n == 0 {
		t.Fatal("no panic is counted")
	}
	broken.Store(false)
	for d := 37 * time.Second; d <= 120*time.Second; d += 4 * time.Second {
		c.back("pi-2", now.Add(d))
		c.look(now.Add(d))
	}
	c.committed()
	if got := c.transitions("Silent"); !slices.Equal(got, []string{"firing"}) {
		t.Errorf("delivered %v, want the silence of one board", got)
	}
	for name, want := range map[string]string{"pi-1": "silent", "pi-2": "up"} {
		if got := c.Status()[name].State; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// A panic that a board's registry entry brings out costs neither the other boards' presence nor the call that met one.
func TestPanicBetweenTwoMessages(t *testing.T) {
	metrics := prometheus.NewRegistry()
	c := startWith(t, t.TempDir(), startNATS(t), Options{Registerer: metrics, Forgotten: func(string) { panic("not prepared for this") }})
	c.addBoard("pi-1", nil)
	c.addBoard("pi-2", nil)
	now := time.Now()
	for _, name := range []string{"pi-1", "pi-2"} {
		c.publish(name, hot(1, now, 50))
		c.ack()
	}
	if err := c.Registry.Retire(t.Context(), "pi-1"); err != nil {
		t.Fatal(err)
	}
	c.look(now.Add(time.Second))
	if s := c.Status(); s["pi-2"].State != "up" || s["pi-1"].State != "" {
		t.Errorf("status %v", s)
	}
	if err := c.Do(t.Context(), func() { panic("nor for this") }); err == nil || !strings.Contains(err.Error(), "fault in the collector") {
		t.Errorf("a call that panics says %v", err)
	}
	if n := panics(t, metrics); n != 2 {
		t.Errorf("%v panics counted, want 2", n)
	}
}

// faultyStore is a store whose Add panics at first.
type faultyStore struct {
	*storage.Store
	left atomic.Int32
}

func (s *faultyStore) Add(rows []storage.Row) error {
	if s.left.Add(-1) >= 0 {
		panic("not prepared for this")
	}
	return s.Store.Add(rows)
}

// A panic after the commit, where a page is delivered or readings are stored, takes neither from another, and is over with
// its cause.
func TestPanicAfterTheCommit(t *testing.T) {
	dir, s, metrics := t.TempDir(), startNATS(t), prometheus.NewRegistry()
	bad := func(ts []alert.Transition) {
		if slices.ContainsFunc(ts, func(tr alert.Transition) bool { return tr.Labels["board"] == "bad" }) {
			panic("not prepared for this")
		}
	}
	store := &faultyStore{}
	store.left.Store(1)
	c := startWith(t, dir, s, Options{Registerer: metrics, Deliver: bad, Store: store})
	c.addBoard("bad", nil)
	c.addBoard("pi-1", nil)
	now := time.Now()
	c.publish("bad", hot(1, now, 85))
	c.expectAck(1, 1)
	c.publish("pi-1", hot(1, now, 85))
	c.expectAck(1, 1)
	c.committed()
	if got := c.transitions("Hot"); !slices.Equal(got, []string{"firing"}) {
		t.Errorf("delivered %v, want that of one board", got)
	}
	c.expect(`count(count_over_time(pi_soc_temperature_celsius[1h]))`, 2)
	if n := panics(t, metrics); n < 2 {
		t.Errorf("%v panics counted, want those of a delivery and of the store", n)
	}
	c.stop()
	c = startWith(t, dir, s, Options{Deliver: bad}) // the same transitions, all at once
	if got := c.transitions("Hot"); !slices.Equal(got, []string{"firing"}) {
		t.Errorf("after a restart delivered %v, want that of one board", got)
	}
}

// FuzzMessage publishes any bytes from several boards at a time: nothing panics, the journal can be replayed, and another
// board is served.
func FuzzMessage(f *testing.F) {
	metrics := prometheus.NewRegistry()
	c := startWith(f, f.TempDir(), startNATS(f), Options{Registerer: metrics, Log: slog.New(slog.DiscardHandler)})
	now := time.Now()
	for _, name := range []string{"hostile-1", "hostile-2", "pi-1"} {
		c.addBoard(name, map[string]string{"rack": "r1"})
	}
	bye := hot(4, now, 50)
	bye.Goodbye = true
	known := hot(2, now, 85, 50, 85)
	known.Info = []report.Attribute{{Key: report.AttributeModel, Value: "Raspberry Pi 5"}}
	for _, r := range []*report.Report{hot(1, now, 50), known, bye, hot(1<<63, now.Add(-9*24*time.Hour), 1, 2), {Session: 77, Due: 1}} {
		f.Add("telemetry.hostile-1", r.Append(nil))
	}
	f.Add("telemetry.hostile-2", (&report.Hello{Session: 7, Nonce: 9}).Append(nil))
	f.Add("telemetry.hostile-2", amplified(1, now)[:200])
	f.Add("telemetry.", []byte{})
	f.Add("telemetry.x.y", []byte{0})
	next := uint64(1)
	f.Fuzz(func(t *testing.T, subject string, data []byte) {
		for _, s := range []string{subject, "telemetry.hostile-1", "telemetry.hostile-2"} {
			c.messages <- &nats.Msg{Subject: s, Data: data}
		}
		c.messages <- &nats.Msg{Subject: "telemetry.pi-1", Data: hot(next, now.Add(time.Duration(next)*time.Millisecond), 50).Append(nil)}
		next++
		for done := false; !done; { // pi-1 is served, however many wait for their allowance
			if err := c.Do(t.Context(), func() {
				s := c.Ingest.board("pi-1").sessions.of(77)
				done = s != nil && s.Taken[len(s.Taken)-1].First+s.Taken[len(s.Taken)-1].Count == next
			}); err != nil {
				t.Fatal(err)
			}
		}
		if n := panics(t, metrics); n != 0 {
			t.Fatalf("%v panics", n)
		}
	})
}
