package ingest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"bramble/alerting/alert"
	"bramble/alerting/rules"
	"bramble/collector/journal"
	"bramble/collector/registry"
	"bramble/dashboards/live"
	"bramble/pisensor/report"
	"bramble/storage"
)

const testRules = `
groups:
  - name: test
    rules:
      - alert: Hot
        expr: pi_soc_temperature_celsius > 80
      - alert: Silent
        expr: pi_board_up == 0
        keep_firing_for: 30s
`

// collector is a running Ingest between a real NATS server and a real store.
type collector struct {
	*Ingest
	t     testing.TB
	store *storage.Store
	dir   string
	nats  *server.Server
	board *nats.Conn // speaks for the boards
	acks  chan *nats.Msg
	stop  func()

	mu        sync.Mutex
	delivered []alert.Transition
	live      []string
}

func startNATS(t testing.TB) *server.Server {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, MaxPayload: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS does not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

func connect(t testing.TB, s *server.Server) *nats.Conn {
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// start runs an Ingest on dir until stop or the end of the test.
func start(t testing.TB, dir string, s *server.Server) *collector {
	t.Helper()
	return startWith(t, dir, s, Options{})
}

// startWith takes those of the options that a test is about.
func startWith(t testing.TB, dir string, s *server.Server, o Options) *collector {
	t.Helper()
	c := &collector{t: t, dir: dir, nats: s, acks: make(chan *nats.Msg, 1024)}
	db, err := registry.OpenDB(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	boards, err := registry.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	store, err := storage.Open(filepath.Join(dir, "series"), storage.Options{MemoryBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := rules.Load(map[string][]byte{"test.yml": []byte(testRules)})
	if err != nil {
		t.Fatal(err)
	}
	o.Dir, o.Conn, o.Registry = filepath.Join(dir, "journal"), connect(t, s), boards
	o.Engine = rules.NewEngine(loaded)
	c.store = store
	if o.Store == nil {
		o.Store = store
	}
	if faulty, ok := o.Store.(*faultyStore); ok {
		faulty.Store = store
	}
	if deliver := o.Deliver; deliver != nil {
		o.Deliver = func(ts []alert.Transition) { deliver(ts); c.deliver(ts) }
	} else {
		o.Deliver = c.deliver
	}
	if o.Live == nil {
		o.Live = c.publishLive
	}
	if c.Ingest, err = New(o); err != nil {
		t.Fatal(err)
	}
	c.board = connect(t, s)
	if _, err := c.board.ChanSubscribe("ack.*", c.acks); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	if err := c.Do(ctx, func() {}); err != nil { // the loop runs, so it has subscribed
		t.Fatal(err)
	}
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
		db.Close()
	})
	t.Cleanup(c.stop)
	return c
}

func (c *collector) deliver(ts []alert.Transition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delivered = append(c.delivered, ts...)
}

func (c *collector) publishLive(board string, at int64, values []live.Value) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range values {
		c.live = append(c.live, fmt.Sprint(board, " ", at, " ", v.Series, " ", v.Value))
	}
}

// transitions returns the states that were delivered for a rule.
func (c *collector) transitions(alert string) (states []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.delivered {
		if t.Labels["alertname"] == alert {
			states = append(states, t.State.String())
		}
	}
	return states
}

func (c *collector) addBoard(name string, labels map[string]string) {
	c.t.Helper()
	if err := c.Registry.AddBoard(c.t.Context(), name, labels); err != nil {
		c.t.Fatal(err)
	}
}

// hot is a report of temperatures, one a second from a time on.
func hot(first uint64, from time.Time, celsius ...int64) *report.Report {
	r := &report.Report{Session: 77, Anchor: from.UnixMilli() - 5000, First: first, Due: 20_000}
	for i := range celsius {
		r.Elapsed = append(r.Elapsed, 5000+int64(i)*1000)
	}
	values := r.Column(report.Series{Metric: report.SOCTemperature})
	for i, v := range celsius {
		values[i] = v * 1000
	}
	return r
}

func (c *collector) publish(board string, r *report.Report) {
	c.t.Helper()
	c.raw(board, r.Append(nil))
}

func (c *collector) raw(board string, b []byte) {
	c.t.Helper()
	if err := c.board.Publish(report.TelemetrySubject(board), b); err != nil {
		c.t.Fatal(err)
	}
}

// ack waits for the next ack with ranges.
func (c *collector) ack() report.Ack {
	c.t.Helper()
	select {
	case m := <-c.acks:
		a, err := report.DecodeAck(m.Data)
		if err != nil {
			c.t.Fatal(err)
		}
		return a
	case <-time.After(patience):
		c.t.Fatalf("no ack within %s", patience)
		return report.Ack{}
	}
}

func (c *collector) expectAck(first, count uint64) {
	c.t.Helper()
	if a := c.ack(); a.Session != 77 || !slices.Equal(a.Ranges, []report.Range{{First: first, Count: count}}) {
		c.t.Fatalf("ack %+v, want ticks %d+%d", a, first, count)
	}
}

// expectCount asks the store until a query has the value, for rows travel
// there behind the ack.
func (c *collector) expect(expr string, want float64) {
	c.t.Helper()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var got any = "nothing"
	for deadline := time.After(patience); ; {
		found, err := c.store.Query(c.t.Context(), expr, time.Now().Add(11*time.Second))
		if err != nil {
			c.t.Fatal(err)
		}
		if len(found) == 1 {
			if got = found[0].Values[0]; got == want {
				return
			}
		}
		select {
		case <-tick.C:
		case <-deadline:
			c.t.Fatalf("%s is %v, want %v", expr, got, want)
		}
	}
}

// lookEvery is how often a test polls a state that gives no signal of a change.
const lookEvery = 10 * time.Millisecond

// patience ends a test that hangs. It claims nothing: a machine that tests much at once is slow.
const patience = time.Minute

// waitFor polls until ok.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %s: %s", patience, what)
		}
	}
}

// A query that begins after a reading was shown live finds it in the store.
func TestQueriesSeeReadingsShownLive(t *testing.T) {
	shown := make(chan struct{}, 1)
	c := startWith(t, t.TempDir(), startNATS(t), Options{Live: func(_ string, _ int64, values []live.Value) {
		if values[0].Series == "pi_soc_temperature_celsius" {
			shown <- struct{}{}
		}
	}})
	c.addBoard("pi-1", nil)
	from := time.Now().Add(-time.Minute)
	for i := range 50 {
		at := from.Add(time.Duration(i) * time.Second)
		c.publish("pi-1", hot(uint64(i+1), at, 50))
		<-shown
		c.CaughtUp(t.Context())
		got, err := c.store.Query(t.Context(), `count_over_time(pi_soc_temperature_celsius[1h])`, at.Add(time.Second))
		if err != nil || len(got) != 1 || got[0].Values[0] != float64(i+1) {
			t.Fatalf("%v, %v, want %d readings", got, err, i+1)
		}
	}
}

// A store that takes nothing holds up no query.
func TestQueriesDoNotWaitForAStoreThatTakesNothing(t *testing.T) {
	x := newTape(t)
	x.changed = func(error) {}
	x.refuses(errors.New("no space left"))
	x.append()
	if x.upTo(1) != nil {
		t.Error("a query waits")
	}
}

func TestReadingReachesStoreRulesAndPages(t *testing.T) {
	c := start(t, t.TempDir(), startNATS(t))
	c.addBoard("pi-1", map[string]string{"rack": "r1"})
	from := time.Now().Add(-10 * time.Second)
	c.publish("pi-1", hot(1, from, 50, 85, 60))
	c.expectAck(1, 3)
	c.expect(`count_over_time(pi_soc_temperature_celsius{board="pi-1",rack="r1"}[1h])`, 3)
	c.expect(`max_over_time(pi_soc_temperature_celsius{board="pi-1"}[1h])`, 85)
	if got := c.transitions("Hot"); !slices.Equal(got, []string{"firing", "inactive"}) {
		t.Errorf("delivered %v", got)
	}
	c.mu.Lock()
	for _, tr := range c.delivered {
		if now := time.Now().UnixMilli(); tr.Labels["alertname"] == "Hot" && (tr.Arrived < from.UnixMilli() || tr.Arrived > now) {
			t.Errorf("the report of %v arrived at %d, now is %d", tr.State, tr.Arrived, now)
		}
	}
	defer c.mu.Unlock()
	want := fmt.Sprint("pi-1 ", from.UnixMilli()+1000, " pi_soc_temperature_celsius 85")
	if !slices.Contains(c.live, want) {
		t.Errorf("live readings %q lack %q", c.live, want)
	}
}

func TestHoldWaitsForTheStoreAndKeepsTheJournal(t *testing.T) {
	c := start(t, t.TempDir(), startNATS(t))
	c.addBoard("pi-1", nil)
	c.publish("pi-1", hot(1, time.Now().Add(-10*time.Second), 50, 51, 52))
	c.expectAck(1, 3)
	release, err := c.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := c.Store.(*storage.Store).Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if snapshot.Rows < 3 {
		t.Errorf("a snapshot under hold has %d rows, want what was acknowledged", snapshot.Rows)
	}
	snapshot.Release()
	cut := func() (err error) {
		if doErr := c.Do(t.Context(), func() { err = c.checkpoint() }); doErr != nil {
			t.Fatal(doErr)
		}
		return err
	}
	first := filepath.Join(c.dir, "journal", "0000000000000001.journal")
	c.publish("pi-1", hot(4, time.Now().Add(-5*time.Second), 50)) // taken all the while
	c.expectAck(1, 4)
	if err := cut(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(first); err != nil {
		t.Errorf("the journal was cut under hold: %v", err)
	}
	release()
	if err := cut(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the journal is not cut after release", func() bool { _, err := os.Stat(first); return err != nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Hold(ctx); err == nil {
		t.Error("held for nobody")
	}
	if n := c.holds.Load(); n != 0 {
		t.Errorf("%d holds are left", n)
	}
}

func TestBadReportsAreCountedAndHarmNobody(t *testing.T) {
	c := start(t, t.TempDir(), startNATS(t))
	c.addBoard("pi-1", nil)
	now := time.Now()
	good := hot(1, now.Add(-5*time.Second), 50)
	c.raw("pi-1", []byte("nonsense"))
	c.raw("pi-1", nil)
	c.raw("pi-1", make([]byte, report.MaxSize+1))
	c.raw("nobody", good.Append(nil))
	c.raw("Not-A-Name", good.Append(nil))
	c.publish("pi-1", hot(100, now.Add(-30*24*time.Hour), 50)) // too old: acknowledged, that it may rest
	c.expectAck(100, 1)
	c.publish("pi-1", hot(200, now.Add(time.Hour), 50)) // too far ahead: its time may come
	c.publish("pi-1", good)
	c.expectAck(1, 1)
	c.publish("pi-1", good)
	c.expectAck(1, 1)
	c.expect(`count_over_time(pi_soc_temperature_celsius[60d])`, 1)
	want := map[string]uint64{undecodable: 2, oversized: 1, foreign: 2, outsideWindow: 2, overAllowance: 0}
	if got := c.Rejected(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("rejected %v, want %v", got, want)
	}
	if n := c.drops.total.reports[replayed]; n != 1 {
		t.Errorf("%d reports counted as taken before, want 1", n)
	}
}

func TestOneAckCoversTheReportsThatAskForNone(t *testing.T) {
	c := start(t, t.TempDir(), startNATS(t))
	c.addBoard("pi-1", nil)
	from := time.Now().Add(-40 * time.Second)
	for i := range uint64(3) {
		r := hot(1+i, from.Add(time.Duration(i)*10*time.Second), 50)
		r.AckLater = i < 2
		c.publish("pi-1", r)
	}
	c.expectAck(1, 3) // and no other before it
	lost := hot(6, from.Add(35*time.Second), 50)
	c.publish("pi-1", lost)
	c.expectAck(6, 1) // ticks 4 and 5 have not come
}

// TestAGoodbyeIsAcknowledged has a sensor stop whose last reports asked for no acknowledgement, one of them behind a gap.
func TestAGoodbyeIsAcknowledged(t *testing.T) {
	c := start(t, t.TempDir(), startNATS(t))
	c.addBoard("pi-1", nil)
	c.publish("pi-1", &report.Report{Session: 77, First: 1, Goodbye: true}) // nothing was taken: no answer
	from := time.Now().Add(-40 * time.Second)
	for i, first := range []uint64{1, 2, 5, 6} {
		r := hot(first, from.Add(time.Duration(i)*10*time.Second), 50)
		r.AckLater = true
		c.publish("pi-1", r)
	}
	c.publish("pi-1", &report.Report{Session: 77, First: 7, Goodbye: true})
	if a, want := c.ack(), []report.Range{{First: 1, Count: 2}, {First: 5, Count: 2}}; a.Session != 77 || !slices.Equal(a.Ranges, want) {
		t.Errorf("ack %+v, want %v", a, want)
	}
}

// TestAFloodOfReadingsIsHeldBack sends within a hundred kilobytes more readings than a board may claim.
func TestAFloodOfReadingsIsHeldBack(t *testing.T) {
	c := start(t, t.TempDir(), startNATS(t))
	c.addBoard("flood", nil)
	c.addBoard("usual", nil)
	const reports = 60
	from := time.Now().Add(-reports * report.MaxTicks * time.Second)
	for i := range reports {
		c.raw("flood", amplified(uint64(i)*report.MaxTicks, from.Add(time.Duration(i)*report.MaxTicks*time.Second)))
	}
	c.publish("usual", hot(1, time.Now().Add(-3*time.Second), 40))
	for taken := 0; ; taken++ {
		if m := <-c.acks; m.Subject == report.AckSubject("usual") {
			break
		}
		if taken*61_440 > readingBurst+10*readingRate {
			t.Fatalf("the other board waits behind %d reports of the flood", taken)
		}
	}
	waitFor(t, "reports over the allowance", func() bool { return c.drops.of("flood")[overAllowance] > reports/2 })
	c.expect(`pi_soc_temperature_celsius{board="usual"}`, 40)
}

// TestAJournalOfTooManyReadingsLeavesThemToTheirSensors counts readings, of which a journal of few bytes can hold any number.
func TestAJournalOfTooManyReadingsLeavesThemToTheirSensors(t *testing.T) {
	dir, s := t.TempDir(), startNATS(t)
	c := start(t, dir, s)
	c.addBoard("pi-1", nil)
	from := time.Now().Add(-20 * time.Second)
	c.publish("pi-1", hot(1, from, 50, 51, 52))
	c.expectAck(1, 3)
	c.stop()
	c = start(t, dir, s)
	if n := c.held.Load(); n != 3 {
		t.Errorf("%d readings are in the replayed journal, want 3", n)
	}
	c.held.Store(maxHeld)
	if c.Err() == nil {
		t.Error("nothing is wrong")
	}
	crossing := hot(4, from.Add(10*time.Second), 85)
	c.publish("pi-1", crossing)
	waitFor(t, "no page", func() bool { return len(c.transitions("Hot")) > 0 })
	c.checkpointed()
	if len(c.acks) > 0 || c.Err() != nil {
		t.Errorf("%d acknowledgements, %v", len(c.acks), c.Err())
	}
	c.publish("pi-1", crossing)
	c.expectAck(1, 4)
	if n := c.held.Load(); n != 1 {
		t.Errorf("%d readings are in the journal that was cut, want 1", n)
	}
	if got := c.transitions("Hot"); !slices.Equal(got, []string{"firing"}) {
		t.Errorf("delivered %v", got)
	}
}

// checkpointed has the journal cut and waits until its older segments are gone.
func (c *collector) checkpointed() {
	c.t.Helper()
	var err error
	if doErr := c.Do(c.t.Context(), func() { err = c.checkpoint() }); doErr != nil || err != nil {
		c.t.Fatal(doErr, err)
	}
	waitFor(c.t, "the journal is not truncated", func() (free bool) {
		if err := c.Do(c.t.Context(), func() { free = !c.cutting }); err != nil {
			c.t.Fatal(err)
		}
		return free
	})
}

func TestRedeliveryAfterRestartNeitherDoublesNorPagesTwice(t *testing.T) {
	dir, s := t.TempDir(), startNATS(t)
	c := start(t, dir, s)
	c.addBoard("pi-1", nil)
	r := hot(1, time.Now().Add(-10*time.Second), 85, 86)
	c.publish("pi-1", r)
	c.expectAck(1, 2)
	c.stop()

	c = start(t, dir, s)
	if got := c.transitions("Hot"); !slices.Equal(got, []string{"firing"}) {
		t.Errorf("after the start %v were delivered again, want what the journal holds", got)
	}
	r.Session = 78 // as if the collector had forgotten the session
	c.publish("pi-1", r)
	c.ack()
	c.expect(`count_over_time(pi_soc_temperature_celsius[1h])`, 2)
	if got := c.transitions("Hot"); len(got) != 1 {
		t.Errorf("delivered %v", got)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, line := range c.live {
		if line[:5] == "pi-1 " && line[len(line)-3:] == " 86" {
			t.Errorf("shown live again: %s", line)
		}
	}
}

func TestRelabelledBoardKeepsItsHistory(t *testing.T) {
	dir, s := t.TempDir(), startNATS(t)
	c := start(t, dir, s)
	c.addBoard("pi-1", map[string]string{"customer": "old"})
	r := hot(1, time.Now().Add(5*time.Second), 50, 51, 52) // a clock ahead: the hardest case
	c.publish("pi-1", r)
	c.expectAck(1, 3)
	if err := c.Relabel(t.Context(), "pi-1", map[string]string{"customer": "new"}); err != nil {
		t.Fatal(err)
	}
	r.Session = 78
	c.publish("pi-1", r)
	c.ack()
	c.publish("pi-1", hot(4, time.Now().Add(8500*time.Millisecond), 53))
	c.ack()
	c.expect(`sum(count_over_time(pi_soc_temperature_celsius[1h]))`, 4)
	c.expect(`sum(count_over_time(pi_soc_temperature_celsius{customer="old"}[1h]))`, 3)
	c.stop()

	c = start(t, dir, s) // the journal is replayed under the new labels' eyes
	c.expect(`sum(count_over_time(pi_soc_temperature_celsius[1h]))`, 4)
	c.expect(`sum(count_over_time(pi_soc_temperature_celsius{customer="old"}[1h]))`, 3)
}

func TestCheckpointFreesTheJournalAndKeepsTheState(t *testing.T) {
	dir, s := t.TempDir(), startNATS(t)
	c := start(t, dir, s)
	c.addBoard("pi-1", nil)
	r := hot(1, time.Now().Add(-10*time.Second), 85, 86)
	c.publish("pi-1", r)
	c.expectAck(1, 2)
	c.checkpointed()
	segments, _ := filepath.Glob(filepath.Join(dir, "journal", "*"))
	if len(segments) != 1 {
		t.Errorf("segments %v, want one", segments)
	}
	c.stop()
	c = start(t, dir, s)
	c.publish("pi-1", r)
	c.expectAck(1, 2)
	if c.drops.total.reports[replayed] != 1 {
		t.Error("the session was forgotten")
	}
	if got := c.transitions("Hot"); len(got) != 0 {
		t.Errorf("delivered %v", got)
	}
	if firing := c.Engine.Firing(); len(firing) != 1 {
		t.Errorf("firing %v", firing)
	}
	c.expect(`count_over_time(pi_soc_temperature_celsius[1h])`, 2)
}

// look checks presence as the loop would at a time.
func (c *collector) look(at time.Time) {
	c.t.Helper()
	var err error
	if doErr := c.Do(c.t.Context(), func() { err = c.presence.check(at) }); doErr != nil || err != nil {
		c.t.Fatal(doErr, err)
	}
}

// committed waits until all that was decided is on disk and delivered.
func (c *collector) committed() {
	c.t.Helper()
	done := make(chan struct{})
	if err := c.journal.After(func(journal.Position) { close(done) }); err != nil {
		c.t.Fatal(err)
	}
	<-done
}

// back has a board report at a time.
func (c *collector) back(name string, at time.Time) {
	c.t.Helper()
	var err error
	if doErr := c.Do(c.t.Context(), func() { err = c.presence.heard(c.Ingest.board(name), &report.Report{Due: 60_000}, at) }); doErr != nil || err != nil {
		c.t.Fatal(doErr, err)
	}
}

func TestSilence(t *testing.T) {
	c := start(t, t.TempDir(), startNATS(t))
	c.addBoard("pi-1", nil)
	c.addBoard("pi-2", nil)
	now := time.Now()
	c.look(now) // the collector's own start is over
	r := hot(1, now, 50)
	r.Due = 15_000
	c.publish("pi-1", r)
	c.ack()
	bye := hot(1, now, 50)
	bye.Goodbye = true
	c.publish("pi-2", bye)
	c.ack()
	c.expect(`pi_board_up{board="pi-1"}`, 1)
	for d := time.Second; d < 44*time.Second; d += 4 * time.Second {
		c.look(now.Add(d)) // 3 × 15 s have not passed
	}
	c.committed()
	if got := c.transitions("Silent"); len(got) != 0 {
		t.Fatalf("silent too early: %v", got)
	}
	c.look(now.Add(46 * time.Second))
	c.look(now.Add(50 * time.Second))
	if got := c.Status()["pi-1"].State; got != "silent" {
		t.Errorf("pi-1 is %q", got)
	}
	if got := c.Status()["pi-2"].State; got != "stopped" {
		t.Errorf("pi-2 is %q", got)
	}
	c.back("pi-1", now.Add(55*time.Second))
	for d := time.Minute; d <= 100*time.Second; d += 4 * time.Second {
		c.look(now.Add(d))
	}
	c.committed()
	if got := c.transitions("Silent"); !slices.Equal(got, []string{"firing", "cooling", "inactive"}) {
		t.Errorf("delivered %v", got)
	}
}

func TestPauseOfTheCollectorSilencesNobody(t *testing.T) {
	c := start(t, t.TempDir(), startNATS(t))
	c.addBoard("pi-1", nil)
	now := time.Now()
	c.publish("pi-1", hot(1, now, 50))
	c.ack()
	c.look(now)
	c.look(now.Add(10 * time.Minute)) // the process was stopped in between
	c.look(now.Add(10*time.Minute + 4*time.Second))
	c.committed()
	if got := c.transitions("Silent"); len(got) != 0 {
		t.Errorf("delivered %v", got)
	}
}

func TestSeriesAreLimited(t *testing.T) {
	b := board{}
	now := time.Now().UnixMilli()
	device := func(i int) report.Series {
		return report.Series{Metric: report.NetworkReceive, Instance: fmt.Sprint("eth", i)}
	}
	for i := range maxSeries {
		if !b.admit(device(i), now) {
			t.Fatalf("series %d refused", i)
		}
	}
	if b.admit(device(1000), now) {
		t.Error("one series too many was admitted")
	}
	if !b.admit(device(3), now) {
		t.Error("a known series was refused")
	}
	admitted := maxSeries
	for i := range 1000 {
		now += seriesRest.Milliseconds() + 1
		if b.admit(device(2000+i), now) && now/86400_000 == b.day && b.day == time.Now().UnixMilli()/86400_000 {
			admitted++
		}
	}
	if admitted > maxNewSeries {
		t.Errorf("%d new series in a day", admitted)
	}
}

func TestSessionsMergeRanges(t *testing.T) {
	var s sessions
	taken := map[uint64]bool{}
	for _, r := range []report.Range{{First: 5, Count: 3}, {First: 1, Count: 2}, {First: 20, Count: 5}, {First: 3, Count: 2}, {First: 4, Count: 18}, {First: 8, Count: 1}} {
		s.take(9, r.First, r.Count)
		for n := r.First; n < r.First+r.Count; n++ {
			taken[n] = true
		}
		for n := range uint64(30) {
			if got := s.has(9, n, 1); got != taken[n] {
				t.Fatalf("after %v: tick %d taken: %v", r, n, got)
			}
		}
	}
	if len(s[0].Taken) != 1 || s.has(8, 1, 1) {
		t.Errorf("%+v", s)
	}
	for id := range uint32(100) {
		s.take(id, 1, 1)
	}
	if len(s) > maxSessions {
		t.Errorf("%d sessions", len(s))
	}
}

func FuzzRecord(f *testing.F) {
	for _, r := range []reportRecord{
		{board: "pi-1", received: 1, report: []byte("x"), transitions: []alert.Transition{{Rule: "r", At: 1}}},
		{board: "pi-1", received: 1, report: []byte("x"), refused: []int{0, 7, 63}},
	} {
		b, err := r.append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		r, err := decodeReportRecord(b[1:], b[0] == recordLimited)
		if err != nil {
			return
		}
		again, err := r.append(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeReportRecord(again[1:], again[0] == recordLimited)
		if err != nil || got.board != r.board || got.received != r.received || !slices.Equal(got.refused, r.refused) {
			t.Fatalf("%+v became %+v, %v", r, got, err)
		}
	})
}

func TestRetiredBoardIsForgotten(t *testing.T) {
	c := start(t, t.TempDir(), startNATS(t))
	c.addBoard("pi-1", nil)
	c.publish("pi-1", hot(1, time.Now().Add(-5*time.Second), 85))
	c.ack()
	if err := c.Registry.Retire(t.Context(), "pi-1"); err != nil {
		t.Fatal(err)
	}
	c.look(time.Now())
	if firing := c.Engine.Firing(); len(firing) != 0 {
		t.Errorf("a retired board fires: %v", firing)
	}
	if s, ok := c.Status()["pi-1"]; ok {
		t.Errorf("a retired board has the status %v", s)
	}
}
