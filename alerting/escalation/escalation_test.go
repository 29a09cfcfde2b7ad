package escalation

import (
	"database/sql"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	_ "modernc.org/sqlite"

	"bramble/alerting/database"
	"bramble/alerting/fault"
	"bramble/alerting/incident"
	"bramble/alerting/oncall"
	"bramble/alerting/outbox"
	"bramble/alerting/receivers"
	"bramble/storage/statedb"
)

// channelsTo is an alertmanager.yml with receivers that post to url/NAME, and one, oncall, that a policy stands for.
func channelsTo(url string, names ...string) []byte {
	var b strings.Builder
	b.WriteString("route: {receiver: oncall}\nreceivers:\n- name: oncall\n")
	for _, n := range names {
		fmt.Fprintf(&b, "- name: %s\n  webhook_configs: [{url: %q}]\n", n, url+"/"+n)
	}
	return []byte(b.String())
}

const twoSteps = `
people:
  - {name: ada, ack_notice: ada-ntfy, channels: [{receiver: ada-ntfy}, {receiver: ada-sms, after: 2m}, {receiver: ada-phone, after: 5m}]}
  - {name: jonas, channels: [{receiver: jonas-ntfy}], ack_notice: jonas-ntfy}
  - {name: mira, channels: [{receiver: mira-ntfy}]}
policies:
  - name: default
    receivers: [oncall]
    steps:
      - {notify: [ada], wait: 10m}
      - {notify: [jonas, mira], wait: 15m}
    repeat: 1
    fallback: everybody
`

var allChannels = []string{"ada-ntfy", "ada-sms", "ada-phone", "jonas-ntfy", "mira-ntfy", "everybody"}

// bench is an engine whose loop does not run: the test sets the time, acts, and reads the journal.
type bench struct {
	*Engine
	t      *testing.T
	at     time.Duration // since the start
	zero   int64
	routes Routes
	oncall *oncall.Config
	outbox *outbox.Queue
	over   int64 // since when every condition is over
}

// routes are receivers without a tree: each board is a group.
type routes struct{ *receivers.Set }

// GroupKeys implements Routes.
func (routes) GroupKeys(labels map[string]string) []string { return []string{labels["board"]} }

func newBench(t *testing.T, onCall string) *bench {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "state.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := statedb.Ready(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	conf, err := config.Load(string(channelsTo("http://127.0.0.1:1", allChannels...)))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	external := &url.URL{Scheme: "http", Host: "collector.example", Path: "/"}
	set, err := receivers.Build(conf, &receivers.Own{}, &receivers.Parts{ExternalURL: external, Log: log, AMLog: log})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, routes: routes{set}, outbox: outbox.NewQueue()}
	b.page(onCall)
	often := database.NewPrepared(db)
	t.Cleanup(func() { often.Close() })
	b.Engine = New(Options{
		DB: db, Often: often, Commits: database.NewWriter(db), Log: log, ExternalURL: external,
		Faults: fault.NewGuard(prometheus.NewCounter(prometheus.CounterOpts{Name: "faults"}), log),
		Routes: func() Routes { return b.routes }, OnCall: func() *oncall.Config { return b.oncall },
		Suppressed: func([]*amalert.Alert) bool { return false }, OverSince: func(model.Fingerprint) int64 { return b.over },
		Fires: func(*incident.Incident) bool { return false }, Now: func(*incident.Incident) string { return "" },
		Besides: func(*Notification) []string { return nil }, Committed: func(f *Effects) {
			b.outbox.Cancel(func(l *outbox.Message) bool { return f.Stopped[l.ID] })
			b.outbox.Add(f.Messages)
		}, Shift: func(int64) {},
	})
	b.zero = b.clock.now()
	return b
}

// page puts an oncall.yml in force.
func (b *bench) page(onCall string) {
	b.t.Helper()
	c, err := oncall.Parse([]byte(onCall))
	if err != nil {
		b.t.Fatal(err)
	}
	b.oncall = c.WithOverrides(nil)
}

// tx runs one transaction at the bench's time.
func (b *bench) tx(do func(e *transaction) error) *transaction {
	b.t.Helper()
	var e *transaction
	err := b.Commits.Do(func(c *sql.Conn) error {
		e = b.Engine.transaction(c)
		e.now = b.zero + b.at.Milliseconds()
		return do(e)
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.Settle(&e.Effects)
	return e
}

// notify is a notification of the group of one board.
func (b *bench) notify(reason notify.NotifyReason, board string, firing bool) string {
	b.t.Helper()
	now := time.UnixMilli(b.zero + b.at.Milliseconds())
	a := &amalert.Alert{Alert: model.Alert{
		Labels: model.LabelSet{"alertname": "SocHot", "board": model.LabelValue(board), "severity": "critical"}, StartsAt: now,
		Annotations: model.LabelSet{"summary": model.LabelValue(board + " is hot")},
	}}
	if !firing {
		a.EndsAt = now
	}
	n := &Notification{
		Receiver: "oncall", GroupKey: board, Reason: reason, Now: now, Body: outbox.Body{Now: now, Alerts: []*amalert.Alert{a}}, Alerts: []incident.Alert{AlertOf(a)},
	}
	n.Alerts[0].EndsAt = 0
	if !firing {
		n.Alerts[0].EndsAt = now.UnixMilli()
	}
	e := b.tx(func(e *transaction) error { return grouping{e}.record(n) })
	return e.Incident
}

// until does all steps up to a time after the start, each at its own, and returns "time receiver" of what was written.
func (b *bench) until(at time.Duration) string {
	b.t.Helper()
	for {
		var next sql.NullInt64
		if err := b.DB.QueryRowContext(b.t.Context(), `SELECT min(due_at) FROM escalation_step WHERE state = 'pending'`).Scan(&next); err != nil {
			b.t.Fatal(err)
		}
		due := time.Duration(next.Int64-b.zero) * time.Millisecond
		if !next.Valid || due > at {
			b.at = at
			return b.written()
		}
		b.at = max(b.at, due)
		b.tx(func(e *transaction) error { return e.run("") })
	}
}

// written lists the journal's pages that were to leave, by the times at which they were.
func (b *bench) written() string {
	b.t.Helper()
	rows, err := b.DB.QueryContext(b.t.Context(), `SELECT p.receiver, t.kind, t.sent_at, p.state FROM page p JOIN page_to t ON t.page = p.id WHERE t.bundle = '' ORDER BY p.seq`)
	if err != nil {
		b.t.Fatal(err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var receiver, about, state string
		var at int64
		if err := rows.Scan(&receiver, &about, &at, &state); err != nil {
			b.t.Fatal(err)
		}
		line := fmt.Sprintf("%s %s", time.Duration(at-b.zero)*time.Millisecond, receiver)
		if about != aboutFiring {
			line += " " + about
		}
		if state != "waiting" {
			line += " " + state
		}
		out = append(out, line)
	}
	if err := rows.Err(); err != nil {
		b.t.Fatal(err)
	}
	return strings.Join(out, ", ")
}

// deliver makes all that waits delivered.
func (b *bench) deliver() {
	b.t.Helper()
	if _, err := b.DB.ExecContext(b.t.Context(), `UPDATE page SET state = 'delivered' WHERE state = 'waiting'`); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) want(got, want string) {
	b.t.Helper()
	if got = strings.ReplaceAll(got, " delivered", ""); got != want {
		b.t.Errorf("got  %s\nwant %s", got, want)
	}
}

// run does what is due with each page delivered at once.
func (b *bench) run(at time.Duration) string {
	b.t.Helper()
	for step := b.at; step < at; step += 30 * time.Second {
		b.until(step)
		b.deliver()
	}
	return b.until(at)
}

// TestEscalation: channels in their order, then the next step, from the start again, and the fallback, each at its time.
func TestEscalation(t *testing.T) {
	b := newBench(t, twoSteps)
	id := b.notify(notify.ReasonFirstNotification, "b1", true)
	const first = "0s ada-ntfy, 2m0s ada-sms, 5m0s ada-phone"
	b.want(b.until(0), "0s ada-ntfy")
	b.deliver()
	b.want(b.run(9*time.Minute+59*time.Second), first)
	b.want(b.run(10*time.Minute), first+", 10m0s jonas-ntfy, 10m0s mira-ntfy")
	const round = first + ", 10m0s jonas-ntfy, 10m0s mira-ntfy, 25m0s ada-ntfy, 27m0s ada-sms, 30m0s ada-phone, 35m0s jonas-ntfy, 35m0s mira-ntfy"
	b.want(b.run(49*time.Minute), round)
	b.want(b.run(4*time.Hour), round+", 50m0s everybody")
	in, err := b.Incident(t.Context(), id)
	if err != nil || in.Escalation.State != Exhausted || in.Escalation.NextAt != 0 {
		t.Errorf("escalation %+v, %v", in.Escalation, err)
	}
	b.notify(notify.ReasonRepeatIntervalElapsed, "b1", true)
	b.want(b.run(4*time.Hour), round+", 50m0s everybody, 4h0m0s ada-ntfy")
	events, err := b.Timeline(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	want := "opened step page page page step page page repeat step page page page step page page exhausted page step page next next next"
	if got := strings.Join(kinds, " "); got != want {
		t.Errorf("time line %s\nwant      %s", got, want)
	}
}

// TestAcknowledgeStops: after the ack nothing more comes, what waits is stopped, and whoever else was paged hears of it once.
func TestAcknowledgeStops(t *testing.T) {
	t.Parallel()
	b := newBench(t, twoSteps)
	id := b.notify(notify.ReasonFirstNotification, "b1", true)
	b.deliver()
	b.run(10 * time.Minute) // the pages of jonas and mira wait for their provider
	b.at = 11 * time.Minute
	b.tx(func(e *transaction) error {
		return e.acknowledge(id, incident.Ack{By: "jonas", At: e.now, Comment: "on it"})
	})
	const acked = "0s ada-ntfy, 2m0s ada-sms, 5m0s ada-phone, 10m0s jonas-ntfy stopped, 10m0s mira-ntfy stopped, 11m0s ada-ntfy ack"
	b.want(b.run(5*time.Hour), acked)
	if n := b.outbox.Waiting(); n != 4 { // three whose delivery was only written into the journal, and the notice
		t.Errorf("%d letters wait in memory", n)
	}
	b.notify(notify.ReasonRepeatIntervalElapsed, "b1", true)
	b.want(b.run(6*time.Hour), acked)
	b.notify(notify.ReasonAllAlertsResolved, "b1", false)
	b.want(b.run(6*time.Hour+2*time.Minute), acked+", 6h0m0s ada-ntfy resolve, 6h0m0s ada-sms resolve, 6h1m0.001s ada-phone resolve")
}

// TestSnooze: it goes on from the first step, unless it is resolved before.
func TestSnooze(t *testing.T) {
	t.Parallel()
	b := newBench(t, twoSteps)
	id := b.notify(notify.ReasonFirstNotification, "b1", true)
	b.deliver()
	b.run(time.Minute)
	b.tx(func(e *transaction) error {
		return e.acknowledge(id, incident.Ack{By: "ada", At: e.now, Until: e.now + time.Hour.Milliseconds()})
	})
	b.want(b.run(60*time.Minute), "0s ada-ntfy")
	if in, err := b.Incident(t.Context(), id); err != nil || in.Ack == nil || in.Ack.Until != b.zero+61*60_000 {
		t.Errorf("ack %+v, %v", in.Ack, err)
	}
	b.want(b.run(61*time.Minute), "0s ada-ntfy, 1h1m0s ada-ntfy")
	if in, err := b.Incident(t.Context(), id); err != nil || in.Ack != nil || in.Escalation.State != Running {
		t.Errorf("after the snooze: ack %+v, escalation %+v, %v", in.Ack, in.Escalation, err)
	}
	b.tx(func(e *transaction) error {
		return e.acknowledge(id, incident.Ack{By: "ada", At: e.now, Until: e.now + time.Hour.Milliseconds()})
	})
	b.deliver()
	b.notify(notify.ReasonAllAlertsResolved, "b1", false)
	b.want(b.run(9*time.Hour), "0s ada-ntfy, 1h1m0s ada-ntfy stopped, 1h1m0s ada-ntfy resolve")
}

// TestSnoozeKeepsTheAcknowledgement: whoever acknowledged, when and with which note stays; the time line has both.
func TestSnoozeKeepsTheAcknowledgement(t *testing.T) {
	t.Parallel()
	b := newBench(t, twoSteps)
	id := b.notify(notify.ReasonFirstNotification, "b1", true)
	b.deliver()
	ack := func(at time.Duration, a incident.Ack, want incident.Ack) {
		t.Helper()
		b.run(at)
		b.tx(func(e *transaction) error {
			a.At = e.now
			if a.Until != 0 {
				a.Until += e.now
			}
			return e.acknowledge(id, a)
		})
		want.At += b.zero
		if want.Until != 0 {
			want.Until += b.zero
		}
		in, err := b.Incident(t.Context(), id)
		if err != nil || in.Ack == nil || *in.Ack != want {
			t.Errorf("at %s: ack %+v, %v, want %+v", at, in.Ack, err, want)
		}
	}
	const minute, hour = 60_000, 60 * 60_000
	ack(time.Minute, incident.Ack{By: "ada", Comment: "fan on order"}, incident.Ack{By: "ada", At: minute, Comment: "fan on order"})
	ack(2*time.Minute, incident.Ack{By: "ada", Until: hour}, incident.Ack{By: "ada", At: minute, Comment: "fan on order", Until: 2*minute + hour})
	ack(3*time.Minute, incident.Ack{By: "jonas", Comment: "tomorrow", Until: hour}, incident.Ack{By: "ada", At: minute, Comment: "fan on order", Until: 3*minute + hour})
	ack(4*time.Minute, incident.Ack{By: "ada"}, incident.Ack{By: "ada", At: minute, Comment: "fan on order"})
	ack(5*time.Minute, incident.Ack{By: "jonas"}, incident.Ack{By: "jonas", At: 5 * minute})
	ack(6*time.Minute, incident.Ack{By: "jonas", Comment: "parts", Until: hour}, incident.Ack{By: "jonas", At: 5 * minute, Comment: "parts", Until: 6*minute + hour})
	events, err := b.Timeline(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, ev := range events {
		if ev.Kind == "acknowledged" || ev.Kind == "snoozed" {
			said = append(said, ev.Who+" "+ev.Kind+" "+ev.Text)
		}
	}
	want := "ada acknowledged fan on order, ada snoozed for 1h, jonas snoozed for 1h: tomorrow, ada acknowledged , jonas acknowledged , jonas snoozed for 1h: parts"
	if got := strings.Join(said, ", "); got != want {
		t.Errorf("time line %s\nwant      %s", got, want)
	}
	// What fires again within the snooze stays quiet until its end, and no longer.
	b.notify(notify.ReasonAllAlertsResolved, "b1", false)
	b.run(50 * time.Minute)
	b.notify(notify.ReasonAllAlertsResolved, "b1", false)
	b.at = 50 * time.Minute
	before := b.written()
	b.tx(func(e *transaction) error {
		return e.exec("end now", `UPDATE incident SET resolved_at = ? WHERE id = ?`, e.now, id)
	})
	b.notify(notify.ReasonFirstNotification, "b1", true)
	if got := b.run(66*time.Minute - time.Second); strings.Count(got, "ada-ntfy") > strings.Count(before, "ada-ntfy")+1 {
		t.Errorf("within the snooze: %s", got)
	}
	b.run(67 * time.Minute)
	if in, err := b.Incident(t.Context(), id); err != nil || in.Ack != nil || in.Escalation.State != Running {
		t.Errorf("after the snooze: ack %+v, escalation %+v, %v", in.Ack, in.Escalation, err)
	}
}

// TestSnoozeOfWhatIsOver: a snooze that ends when the condition is over pages nobody until it holds again.
func TestSnoozeOfWhatIsOver(t *testing.T) {
	b := newBench(t, twoSteps)
	id := b.notify(notify.ReasonFirstNotification, "b1", true)
	b.deliver()
	b.tx(func(e *transaction) error {
		return e.acknowledge(id, incident.Ack{By: "ada", At: e.now, Until: e.now + 1})
	})
	due := func(over int64) map[string]string {
		t.Helper()
		b.over = over
		for b.clock.now() <= b.zero+1 {
			runtime.Gosched()
		}
		muted, err := b.mutedIncidents(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return muted
	}
	b.at = time.Second
	muted := due(b.zero)
	b.tx(func(e *transaction) error { e.muted = muted; return e.run("") })
	if in, err := b.Incident(t.Context(), id); err != nil || in.Ack == nil {
		t.Errorf("ack %+v, %v; want the snooze to go on", in.Ack, err)
	}
	b.want(b.written(), "0s ada-ntfy")
	if muted := due(0); len(muted) != 0 {
		t.Errorf("it holds again, and still %v", muted)
	}
	b.want(b.until(time.Minute), "0s ada-ntfy, 3s ada-ntfy")
}

// TestClose: by hand it is over though it fires; it pages again only when it begins anew.
func TestClose(t *testing.T) {
	b := newBench(t, twoSteps)
	id := b.notify(notify.ReasonFirstNotification, "b1", true)
	b.deliver()
	b.run(time.Minute)
	b.tx(func(e *transaction) error { return e.close(id, "ada", "the fan was dead") })
	const closed = "0s ada-ntfy, 1m0s ada-ntfy resolve"
	b.want(b.run(5*time.Minute), closed)
	in, err := b.Incident(t.Context(), id)
	if err != nil || in.ResolvedAt == 0 || in.Closing == nil || in.Closing.Comment != "the fan was dead" || !in.Closing.ByHand {
		t.Errorf("incident %+v, %v", in, err)
	}
	b.tx(func(e *transaction) error { return e.close(id, "jonas", "") })
	if in, err = b.Incident(t.Context(), id); err != nil || in.Closing.By != "ada" || in.Closing.Comment != "the fan was dead" {
		t.Errorf("closed again without a comment: %+v, %v", in.Closing, err)
	}
	b.at = 4 * time.Hour
	if other := b.notify(notify.ReasonFirstNotification, "b1", true); other == id || other == "" {
		t.Errorf("an alert that began anew is in incident %q", other)
	}
	b.want(b.run(4*time.Hour), closed+", 4h0m0s ada-ntfy")
}

// TestRefire: what fires again within five minutes is the same incident; a fresh acknowledgement still counts.
func TestRefire(t *testing.T) {
	b := newBench(t, twoSteps)
	id := b.notify(notify.ReasonFirstNotification, "b1", true)
	b.deliver()
	b.run(2 * time.Minute)
	b.notify(notify.ReasonAllAlertsResolved, "b1", false)
	b.run(6 * time.Minute)
	if again := b.notify(notify.ReasonFirstNotification, "b1", true); again != id {
		t.Fatalf("refired as incident %s, not %s", again, id)
	}
	b.deliver()
	b.run(7 * time.Minute)
	b.tx(func(e *transaction) error { return e.acknowledge(id, incident.Ack{By: "jonas", At: e.now}) })
	b.notify(notify.ReasonAllAlertsResolved, "b1", false)
	b.run(10 * time.Minute)
	before := b.written()
	b.notify(notify.ReasonFirstNotification, "b1", true)
	b.want(b.run(60*time.Minute), strings.ReplaceAll(before, " delivered", "")+", 10m0s jonas-ntfy")
}

// TestGap: a step that has nobody is skipped at once and counted, and a policy that has nobody goes to its fallback.
func TestGap(t *testing.T) {
	b := newBench(t, `
people:
  - {name: ada, channels: [{receiver: ada-ntfy}]}
rotas:
  - {name: first, zone: UTC, layers: [{people: [ada], start: 2999-01-01, handover: "09:00", rotate: daily}]}
policies:
  - {name: one, receivers: [oncall], steps: [{notify: [first]}, {notify: [ada]}], fallback: everybody}
`)
	b.notify(notify.ReasonFirstNotification, "b1", true)
	b.want(b.until(0), "0s ada-ntfy")
	if gaps := b.oncall.Rotas[0].Gaps(time.Now(), time.Now().Add(30*24*time.Hour)); len(gaps) != 1 {
		t.Errorf("gaps %v", gaps)
	}
	b.page(`
people: [{name: ada, channels: [{receiver: ada-ntfy}]}]
rotas:
  - {name: first, zone: UTC, layers: [{people: [ada], start: 2999-01-01, handover: "09:00", rotate: daily}]}
policies:
  - {name: one, receivers: [oncall], steps: [{notify: [first]}], repeat: 5, fallback: everybody}
`)
	b.notify(notify.ReasonFirstNotification, "b2", true)
	b.want(b.until(0), "0s ada-ntfy, 0s everybody")
}

// TestChannelFails: a provider that does not take a page brings the next step forward.
func TestChannelFails(t *testing.T) {
	b := newBench(t, twoSteps)
	b.notify(notify.ReasonFirstNotification, "b1", true)
	fail := func(receiver string, attempts int, state string) {
		t.Helper()
		var l outbox.Message
		if err := b.DB.QueryRowContext(t.Context(), `SELECT id, incident, receiver FROM page WHERE receiver = ? ORDER BY seq DESC LIMIT 1`, receiver).Scan(&l.ID, &l.Incident, &l.Receiver); err != nil {
			t.Fatal(err)
		}
		l.Attempts = attempts
		b.tx(func(e *transaction) error { return e.tried(&l, state, "no", 0) })
	}
	b.at = 5 * time.Second
	fail("ada-ntfy", 2, "waiting")
	b.want(b.until(5*time.Second), "0s ada-ntfy")
	fail("ada-ntfy", 3, "waiting")
	b.want(b.until(5*time.Second), "0s ada-ntfy, 5s ada-sms")
	b.at = 6 * time.Second
	fail("ada-sms", 1, "failed")
	b.want(b.until(9*time.Second), "0s ada-ntfy, 5s ada-sms, 7s ada-phone")
}

// TestClockSet: an hour forth or back, running or across a restart, makes no page early, late or twice.
func TestClockSet(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		b := newBench(t, twoSteps)
		b.notify(notify.ReasonFirstNotification, "b1", true)
		b.deliver()
		b.run(time.Minute)
		if err := b.followClock(jump.Milliseconds()); err != nil {
			t.Fatal(err)
		}
		if got := b.clock.now() - time.Now().UnixMilli(); got < jump.Milliseconds()-1000 || got > jump.Milliseconds()+1000 {
			t.Errorf("the clock of steps is %d ms off", got)
		}
		b.zero += jump.Milliseconds() // the time of the test goes with it
		b.want(b.run(119*time.Second), "0s ada-ntfy")
		b.want(b.run(2*time.Minute), "0s ada-ntfy, 2m0s ada-sms")
	}
	c := newStepClock()
	now := time.Now()
	for _, d := range []struct{ wall, want time.Duration }{{0, 0}, {900 * time.Millisecond, 0}, {time.Hour, time.Hour}, {-time.Hour, -time.Hour}} {
		if got := c.jumped(now.Add(d.wall).UnixMilli(), now); got < d.want.Milliseconds()-5 || got > d.want.Milliseconds()+5 {
			t.Errorf("wall clock %s off: %d ms", d.wall, got)
		}
	}
	b := newBench(t, twoSteps)
	b.notify(notify.ReasonFirstNotification, "b1", true)
	if _, err := b.DB.ExecContext(t.Context(), `UPDATE escalation_step SET due_at = due_at + 3600000`); err != nil {
		t.Fatal(err) // as after a clock that was set back while nobody ran
	}
	if err := b.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := b.clock.now() - b.zero
	b.at = time.Duration(late) * time.Millisecond
	if got := b.until(2*time.Minute + b.at); strings.Count(got, ",") != 1 {
		t.Errorf("after a clock that was set back: %s", got)
	}
}

// TestAway: a collector that was away for an hour pages on from there; the steps that it missed do not leave at once.
func TestAway(t *testing.T) {
	b := newBench(t, twoSteps)
	b.notify(notify.ReasonFirstNotification, "b1", true)
	b.deliver()
	b.at = time.Hour
	b.tx((*transaction).catchUp)
	b.want(b.until(time.Hour), "0s ada-ntfy, 1h0m0s ada-sms")
	b.deliver()
	b.want(b.run(time.Hour+3*time.Minute), "0s ada-ntfy, 1h0m0s ada-sms, 1h3m0s ada-phone")
}

// TestStepThatCannotBeDone: one incident that cannot be read holds up no other.
func TestStepThatCannotBeDone(t *testing.T) {
	b := newBench(t, twoSteps)
	bad := b.notify(notify.ReasonFirstNotification, "b1", true)
	b.notify(notify.ReasonFirstNotification, "b2", true)
	b.deliver()
	if _, err := b.DB.ExecContext(t.Context(), `UPDATE escalation SET payload = '{' WHERE incident = ?`, bad); err != nil {
		t.Fatal(err)
	}
	b.want(b.until(2*time.Minute), "0s ada-ntfy, 0s ada-ntfy, 2m0s ada-sms")
	events, err := b.events(t.Context(), bad)
	if err != nil || !strings.Contains(events[len(events)-1].Text, "a step cannot be done: decode alerts") && !strings.Contains(fmt.Sprint(events), "cannot be done") {
		t.Errorf("events %v, %v", events, err)
	}
}

// TestDoubtful: a page that waited when the collector ended may have been received; stopped after that, its receiver hears of
// the end.
func TestDoubtful(t *testing.T) {
	b := newBench(t, twoSteps)
	id := b.notify(notify.ReasonFirstNotification, "b1", true)
	if err := b.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.tx(func(e *transaction) error { return e.acknowledge(id, incident.Ack{By: "jonas", At: e.now}) })
	b.at = 2 * time.Minute
	b.notify(notify.ReasonAllAlertsResolved, "b1", false)
	b.want(b.written(), "0s ada-ntfy stopped, 0s ada-ntfy ack, 2m0s ada-ntfy resolve")
}
