package pager

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	amcommoncfg "github.com/prometheus/alertmanager/config/common"
	"github.com/prometheus/alertmanager/notify"
	amlabels "github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/outbox"
	"bramble/alerting/receivers"
	"bramble/alerting/rules"
)

const (
	// watchdogIntegration names its only integration.
	watchdogIntegration = "heartbeat"
	// keepBeats is how long beats stay in the journal.
	keepBeats = 24 * time.Hour
	// maxBeatAnswer bounds the part of the other side's answer that is read, in bytes.
	maxBeatAnswer = 300
)

// ErrBeat is wrapped by every reason for which no beat was sent.
var ErrBeat = errors.New("no beat")

// Audit finds the first overdue or broken part of alerting; nil means that there is none.
type Audit func(now time.Time) error

// WatchdogOptions say where beats go. All but Token and Audits are needed.
type WatchdogOptions struct {
	// URL takes a POST for each beat, with a JSON body that another collector's /api/heartbeats understands.
	URL string
	// Token goes along as `Authorization: Bearer …` where it is not empty.
	Token string
	Every time.Duration
	// Audits must all pass at the moment of a beat, beside the pager's own.
	Audits []Audit
}

// WatchdogStatus is how the beats fare.
type WatchdogStatus struct {
	Every time.Duration
	// Sent is when the last beat was accepted, Tried when one was last due; zero for never since the start.
	Sent, Tried time.Time
	// Err is why the last one was not sent, nil where it was.
	Err error
}

// watchdog is the integration at the end of the way.
type watchdog struct {
	WatchdogOptions
	pager  *Pager
	client *http.Client

	mu     sync.Mutex
	status WatchdogStatus
}

func newWatchdog(o *WatchdogOptions, p *Pager) *watchdog {
	if o == nil {
		return nil
	}
	w := &watchdog{WatchdogOptions: *o, pager: p, client: &http.Client{}}
	w.status.Every = o.Every
	return w
}

// Watchdog says how the beats fare; false where none are configured.
func (p *Pager) Watchdog() (WatchdogStatus, bool) {
	if p.watchdog == nil {
		return WatchdogStatus{}, false
	}
	p.watchdog.mu.Lock()
	defer p.watchdog.mu.Unlock()
	return p.watchdog.status, true
}

// withWatchdog returns a configuration with the watchdog's route before all others.
func (w *watchdog) withWatchdog(c *config.Config) (*config.Config, error) {
	matcher, err := amlabels.NewMatcher(amlabels.MatchEqual, rules.WatchdogLabel, rules.WatchdogValue)
	if err != nil {
		return nil, err
	}
	// A repeat that is due at the very moment of a flush would wait for the next one.
	wait, interval, repeat := model.Duration(0), model.Duration(w.Every), model.Duration(w.Every/2)
	route := &config.Route{
		Receiver: alert.Watchdog, Matchers: amcommoncfg.Matchers{matcher}, GroupBy: []model.LabelName{alert.NameLabel}, GroupByStr: []string{alert.NameLabel},
		GroupWait: &wait, GroupInterval: &interval, RepeatInterval: &repeat,
	}
	root := *c.Route
	root.Routes = append([]*config.Route{route}, root.Routes...)
	out := *c
	out.Route = &root
	out.Receivers = append([]config.Receiver{{Name: alert.Watchdog}}, out.Receivers...)
	return &out, nil
}

// integrations are the parts of the receiver.
func (w *watchdog) integrations() []notify.Integration {
	return []notify.Integration{notify.NewIntegration(w, w, watchdogIntegration, 0, alert.Watchdog)}
}

// SendResolved implements notify.ResolvedSender.
func (w *watchdog) SendResolved() bool { return false }

// Notify implements notify.Notifier: it sends a beat, if all is well.
func (w *watchdog) Notify(ctx context.Context, alerts ...*amalert.Alert) (retry bool, err error) {
	now := time.Now()
	retry, err = w.beat(ctx, alerts, now)
	w.mu.Lock()
	if was := w.status.Err; (was == nil) != (err == nil) {
		w.pager.log.Warn("watchdog", "beats", err == nil, "err", err)
	}
	w.status.Tried, w.status.Err = now, err
	if err == nil {
		w.status.Sent = now
	}
	w.mu.Unlock()
	return retry, err
}

func (w *watchdog) beat(ctx context.Context, alerts []*amalert.Alert, now time.Time) (retry bool, err error) {
	if _, journalled := receivers.PageID(ctx); !journalled {
		return false, fmt.Errorf("%w: the database takes no page", ErrBeat)
	}
	if err := w.fresh(alerts, now); err != nil {
		return false, err
	}
	for _, audit := range append([]Audit{w.pager.overdue}, w.Audits...) {
		if err := audit(now); err != nil {
			return true, fmt.Errorf("%w: %w", ErrBeat, err)
		}
	}
	return true, w.post(ctx)
}

// fresh reports whether the beat left its rule lately: an old one says nothing about now.
func (w *watchdog) fresh(alerts []*amalert.Alert, now time.Time) error {
	for _, a := range alerts {
		at, err := time.Parse(alert.NoteTime, string(a.Annotations[rules.BeatNote]))
		if err == nil && now.Sub(at) <= 2*w.Every+receivers.TryTimeout {
			return nil
		}
	}
	return fmt.Errorf("%w: what arrived left its rule more than %s ago", errStale, 2*w.Every)
}

// post sends a beat.
func (w *watchdog) post(ctx context.Context) error {
	body := fmt.Sprintf(`{"within":"%ds","message":"collector"}`, int(3*w.Every/time.Second))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader([]byte(body)))
	if err != nil {
		return fmt.Errorf("send beat: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	id, _ := receivers.PageID(ctx)
	r.Header.Set(receivers.IdempotencyHeader, id)
	if w.Token != "" {
		r.Header.Set("Authorization", "Bearer "+w.Token)
	}
	response, err := w.client.Do(r)
	if err != nil {
		return fmt.Errorf("send beat: %w", withoutURL(err))
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(response.Body, maxBeatAnswer)) // only to explain the status
		return fmt.Errorf("send beat: %s: %s", response.Status, bytes.TrimSpace(text))
	}
	return nil
}

// recordBeat writes a beat into the journal of pages. It makes no incident, and takes the place of beats that still wait:
// nobody is helped by a queue of them.
func (j *recorder) recordBeat(ctx context.Context, c *sql.Conn, n *notification) ([]*outbox.Message, error) {
	if n.firingCount == 0 {
		return nil, nil
	}
	l, err := j.message(n, &incident.Incident{ID: alert.Watchdog, GroupKey: n.groupKey}, target{alert.Watchdog, &j.integrations[0]}, nil)
	if err != nil || l == nil {
		return nil, err
	}
	l.ID, l.ReadingAt = "watchdog-"+strconv.FormatInt(n.now.UnixNano(), 36), 0
	_, err = c.ExecContext(ctx, `DELETE FROM page WHERE incident = ? AND (created_at < ? OR state = 'waiting')`, alert.Watchdog, n.now.Add(-keepBeats).UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("drop old beats: %w", err)
	}
	return []*outbox.Message{l}, l.Insert(ctx, c, "waiting")
}

// errStale ends a page that says nothing any more.
var errStale = errors.New("stale")

// withoutURL drops the address from an error of the HTTP client: it may hold a secret.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

const (
	// handOverAfter is how long an alert may fire that nothing holds, beyond its route's interval, without a page.
	handOverAfter = 5 * time.Minute
)

// overdue is the pager's own audit: it names events that should have happened by now and have not.
func (p *Pager) overdue(now time.Time) error {
	if fed := p.inbox.fed.Load(); fed != 0 && now.UnixMilli()-fed > outbox.LateAfter.Milliseconds() {
		return fmt.Errorf("alerts have not been taken in for %s", outbox.Ago(now, fed))
	}
	return errors.Join(p.outbox.Overdue(now), p.unnotified(now), p.lateStep())
}

// lateStep finds a step of an escalation, the end of a snooze or a collected message that is past its time.
func (p *Pager) lateStep() error {
	var (
		incident, kind string
		due            int64
		now            = p.clock.now()
	)
	row := p.db.QueryRow(`SELECT incident, kind, due_at FROM escalation_step WHERE state = 'pending' AND due_at < ? ORDER BY due_at LIMIT 1`, now-outbox.LateAfter.Milliseconds())
	switch err := row.Scan(&incident, &kind, &due); {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("read overdue steps: %w", err)
	}
	return fmt.Errorf("%s of incident %s is overdue by %s", kind, incident, time.Duration(now-due)*time.Millisecond)
}

// unnotified finds an alert that fires, that nothing holds, and that no page was written for. Where routes have time
// intervals, an alert may rightly wait for hours.
func (p *Pager) unnotified(now time.Time) error {
	r := p.routing.Load()
	if len(r.intervals) > 0 {
		return nil
	}
	limit := now.Add(-handOverAfter - r.slowest).UnixMilli()
	var late []alert.Transition
	p.inbox.mu.Lock()
	for fp, l := range p.inbox.live {
		if len(l.firing) > 0 && !p.inbox.notified[fp] && l.last.Received < limit && l.last.FiredAt < limit && p.inbox.inhibiting(l.last) == nil {
			late = append(late, l.last)
		}
	}
	p.inbox.mu.Unlock()
	for _, t := range late {
		if !p.muted(alert.LabelSet(t.Labels)) {
			return fmt.Errorf("%s %s fires since %s, and no page was written", t.Labels[alert.NameLabel], t.Series, time.UnixMilli(t.FiredAt).UTC().Format("15:04:05 UTC"))
		}
	}
	return nil
}

const (
	testAlert       = "TestPage"
	testFailedAlert = "TestPageFailed"
	// testWithin is how long a test page may take; a page that took longer was not delivered in time.
	testWithin = 2 * time.Minute
	// testTries is how many tries a test page may take: a page that is not taken by then has failed as a test, though it is tried on.
	testTries = 5
	// maxOthers is how many other receivers hear of a test page that failed.
	maxOthers = 3
)

// withTests returns a configuration whose first routes lead a test page to the receiver that it is for, and the alert of
// one that failed to others that send something themselves.
func withTests(user *config.Config, sends func(receiver string) bool) (*config.Config, error) {
	wait, interval, repeat := model.Duration(0), model.Duration(5*time.Second), model.Duration(365*24*time.Hour)
	route := func(one, of, to string) (*config.Route, error) {
		var ms amcommoncfg.Matchers
		for _, m := range [][2]string{{alert.NameLabel, one}, {rules.TestReceiver, of}} {
			one, err := amlabels.NewMatcher(amlabels.MatchEqual, m[0], m[1])
			if err != nil {
				return nil, err
			}
			ms = append(ms, one)
		}
		return &config.Route{
			Receiver: to, Matchers: ms, GroupBy: []model.LabelName{alert.NameLabel, rules.TestReceiver, rules.TestID}, GroupByStr: []string{alert.NameLabel, rules.TestReceiver, rules.TestID},
			GroupWait: &wait, GroupInterval: &interval, RepeatInterval: &repeat,
		}, nil
	}
	var own []*config.Route
	for _, rcv := range user.Receivers {
		r, err := route(testAlert, rcv.Name, rcv.Name)
		if err != nil {
			return nil, err
		}
		own = append(own, r)
		var others []*config.Route
		for _, other := range user.Receivers {
			if other.Name == rcv.Name || !sends(other.Name) || len(others) == maxOthers {
				continue
			}
			if r, err = route(testFailedAlert, rcv.Name, other.Name); err != nil {
				return nil, err
			}
			r.Continue = true
			others = append(others, r)
		}
		if len(others) > 0 {
			others[len(others)-1].Continue = false
		}
		own = append(own, others...)
	}
	root := *user.Route
	root.Routes = slices.Concat(own, user.Route.Routes)
	c := *user
	c.Route = &root
	return &c, nil
}

// StartTest puts a test page on record, for a receiver or for the one that the first route leads to. The caller gives the
// engine its reading, Engine.Test, and delivers the transitions. scheduled is when it was due, zero for one on demand.
func (p *Pager) StartTest(ctx context.Context, receiver, by string, scheduled time.Time) (alert.PageTest, error) {
	receiver, err := p.routing.Load().testable(receiver)
	if err != nil {
		return alert.PageTest{}, err
	}
	now := time.Now()
	t := alert.PageTest{Receiver: receiver, At: now.UnixMilli(), By: by, ScheduledFor: millis(scheduled), State: "waiting"}
	err = p.commits.Do(func(c *sql.Conn) error {
		if err := c.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM page`).Scan(&t.AfterPage); err != nil {
			return fmt.Errorf("write test page: %w", err)
		}
		res, err := c.ExecContext(ctx, `INSERT INTO test_page (receiver, at, asked_by, scheduled_for, after_page, state) VALUES (?,?,?,?,?,'waiting')`,
			t.Receiver, t.At, t.By, t.ScheduledFor, t.AfterPage)
		if err != nil {
			return fmt.Errorf("write test page: %w", err)
		}
		t.Number, err = res.LastInsertId()
		return err
	})
	return t, err
}

// testable returns the receiver of that name, for an empty one that of the first route: one that sends something, or that
// represents a policy and so the person on call.
func (r *routing) testable(receiver string) (string, error) {
	names := r.receivers()
	for _, rcv := range r.set.Config.Receivers {
		if r.oncall.PolicyOf(rcv.Name) != nil {
			names = append(names, rcv.Name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	switch first := r.set.Config.Route.Receiver; {
	case len(names) == 0:
		return "", fmt.Errorf("%w: no receiver sends anything: the collector needs an alertmanager.yml with one", alert.ErrBadTest)
	case receiver == "" && slices.Contains(names, first):
		return first, nil
	case receiver == "":
		return names[0], nil
	case !slices.Contains(names, receiver):
		return "", fmt.Errorf("%w: no receiver %q sends anything; there are %s", alert.ErrBadTest, receiver, alert.Enumerate(names))
	}
	return receiver, nil
}

// DecideTests looks at the test pages that wait and returns those that are decided now. Their alerts are to be ended.
func (p *Pager) DecideTests(ctx context.Context, now time.Time) (decided []alert.PageTest, err error) {
	waiting, err := p.readTests(ctx, `WHERE state = 'waiting' ORDER BY number`)
	if err != nil {
		return nil, err
	}
	for _, t := range waiting {
		if err := p.decideTest(ctx, &t, now); err != nil {
			return decided, err
		}
		if t.State == "waiting" {
			continue
		}
		err := p.commits.Do(func(c *sql.Conn) error {
			_, err := c.ExecContext(ctx, `UPDATE test_page SET state = ?, decided_at = ?, latency = ?, answer = ? WHERE number = ?`,
				t.State, t.DecidedAt, t.LatencyMs, t.Answer, t.Number)
			return err
		})
		if err != nil {
			return decided, fmt.Errorf("write test page %d: %w", t.Number, err)
		}
		p.log.Info("test page", "number", t.Number, "receiver", t.Receiver, "state", t.State, "ms", t.LatencyMs, "answer", t.Answer)
		decided = append(decided, t)
	}
	return decided, nil
}

// decideTest looks at the pages that a test made.
func (p *Pager) decideTest(ctx context.Context, t *alert.PageTest, now time.Time) error {
	rows, err := p.db.QueryContext(ctx, `SELECT integration, state, attempts, answer, left_at FROM page WHERE seq > ? AND instr(group_key, ?) > 0 ORDER BY seq`,
		t.AfterPage, fmt.Sprintf("%s=%q", rules.TestID, strconv.FormatInt(t.Number, 10)))
	if err != nil {
		return fmt.Errorf("read pages of test %d: %w", t.Number, err)
	}
	defer rows.Close()
	pages, delivered, failed := 0, 0, []string{}
	for rows.Next() {
		var (
			integration, state, answer string
			attempts                   int
			left                       int64
		)
		if err := rows.Scan(&integration, &state, &attempts, &answer, &left); err != nil {
			return fmt.Errorf("read pages of test %d: %w", t.Number, err)
		}
		pages++
		if state == "delivered" {
			delivered++
			t.LatencyMs = max(t.LatencyMs, left-t.At)
			continue
		}
		failed = append(failed, integration+": "+answer)
		if state == "failed" || attempts >= testTries {
			t.State = "failed"
		}
	}
	late := now.UnixMilli()-t.At > testWithin.Milliseconds()
	switch {
	case pages > 0 && delivered == pages:
		t.State, t.Answer = "delivered", "accepted"
	case pages == 0 && late:
		t.State, t.Answer = "failed", "no page was written within "+testWithin.String()
	case late || t.State == "failed":
		t.State, t.Answer = "failed", strings.Join(failed, "; ")
	}
	if t.State != "waiting" {
		t.DecidedAt = now.UnixMilli()
	}
	return rows.Err()
}

// Tests returns the last test pages, the newest first.
func (p *Pager) Tests(ctx context.Context) ([]alert.PageTest, error) {
	return p.readTests(ctx, `ORDER BY number DESC LIMIT 50`)
}

// LastScheduledTest is when the last test page that was sent on a schedule was due; the zero time for never.
func (p *Pager) LastScheduledTest(ctx context.Context) (time.Time, error) {
	var at int64
	if err := p.db.QueryRowContext(ctx, `SELECT coalesce(max(scheduled_for), 0) FROM test_page`).Scan(&at); err != nil || at == 0 {
		return time.Time{}, err
	}
	return time.UnixMilli(at), nil
}

// FailedTests says of every receiver of the configuration that was tested whether its last test page failed.
func (p *Pager) FailedTests(ctx context.Context) (map[string]bool, error) {
	last, err := p.readTests(ctx, `WHERE number IN (SELECT max(number) FROM test_page WHERE state != 'waiting' GROUP BY receiver)`)
	if err != nil {
		return nil, err
	}
	out, r := map[string]bool{}, p.routing.Load()
	for _, t := range last {
		out[t.Receiver] = t.State == "failed" && len(r.set.Integrations[t.Receiver]) > 0
	}
	return out, nil
}

func (p *Pager) readTests(ctx context.Context, where string) ([]alert.PageTest, error) {
	rows, err := p.db.QueryContext(ctx, `SELECT number, receiver, at, asked_by, scheduled_for, after_page, state, decided_at, latency, answer FROM test_page `+where)
	if err != nil {
		return nil, fmt.Errorf("read test pages: %w", err)
	}
	defer rows.Close()
	out := []alert.PageTest{}
	for rows.Next() {
		var t alert.PageTest
		if err := rows.Scan(&t.Number, &t.Receiver, &t.At, &t.By, &t.ScheduledFor, &t.AfterPage, &t.State, &t.DecidedAt, &t.LatencyMs, &t.Answer); err != nil {
			return nil, fmt.Errorf("read test pages: %w", err)
		}
		out = append(out, t)
	}
	return out, rows.Err()
}
