package pager

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/protobuf/proto"

	"bramble/alerting/alert"
	"bramble/alerting/outbox"
)

const (
	// tryTimeout is how long a provider may take to answer.
	tryTimeout = 5 * time.Second
	// maxRefusedBackoff bounds the wait before the next try of a page that its receiver refused (4xx, a rejected credential), where
	// the group_interval of the receiver's routes is longer.
	maxRefusedBackoff = 5 * time.Minute
	// maxRetryAfter bounds how long a provider may put a page off by Retry-After.
	maxRetryAfter = time.Hour
	// giveUpAfter ends a message that no provider took and that tells of nothing that still fires, such as a resolve.
	giveUpAfter = 24 * time.Hour
)

// errReceiverGone is the answer for a page whose receiver a reload removed.
var errReceiverGone = errors.New("the receiver is no longer in the configuration")

// errFault is the error of a step that met a fault, and the answer for a page that could not be made.
var errFault = errors.New("a fault in the collector: see its log")

// try sends a message once and records the outcome. A page that left is recorded even while the program stops.
func (p *Pager) try(ctx context.Context, l *outbox.Message) {
	if l.Refused && l.SaysFiring() && !p.stillFires(ctx, l) {
		p.endUnsent(l)
		return
	}
	retry, err := p.safeSend(ctx, l)
	err = withoutSecrets(l.Integration, err)
	if err != nil && ctx.Err() != nil {
		p.outbox.Settle(l, false) // interrupted by the stop, not refused
		return
	}
	p.outbox.Answered(l)
	l.Attempts++
	now := time.Now()
	state, answer := "delivered", "accepted"
	if err != nil {
		state, answer = "waiting", err.Error()
		l.Refused = !retry
		l.NextAt = now.Add(max(p.routing.Load().backoff(l), l.RetryAfter)).UnixMilli()
		if p.givenUp(ctx, l, err, now) {
			state = "failed"
		}
		if p.outbox.IsCancelled(l) {
			state = "stopped"
		}
	}
	p.metrics.tries.WithLabelValues(l.Integration, state).Inc()
	p.metrics.health.note(l.Receiver, l.Integration, err != nil)
	p.health.Note(l.Lane(), state, l.Refused && l.Attempts >= triesBeforeNext, answer, now)
	p.recordTry(l, state, answer, now)
	p.logTry(l, state, err, now)
	p.outbox.Settle(l, state != "waiting") // from here on another try may change it
	if state == "delivered" {
		p.outbox.Hurry(func(o *outbox.Message) bool { return o.Lane() == l.Lane() })
	}
	if l.Incident != "" && l.Receiver != alert.Watchdog {
		p.changed(l.Incident)
	}
}

// botToken is the secret in the address of Telegram's API, which its library puts into errors.
var botToken = regexp.MustCompile(`/bot[^/\s"]+`)

// hidden is an error whose text lacks a secret.
type hidden struct {
	text string
	error
}

func (h hidden) Error() string { return h.text }
func (h hidden) Unwrap() error { return h.error }

// withoutSecrets takes the secret out of an integration's error; Alertmanager's own integrations do it themselves.
func withoutSecrets(integration string, err error) error {
	if err == nil || integration != "telegram" {
		return err
	}
	return hidden{botToken.ReplaceAllString(err.Error(), "/bot<redacted>"), err}
}

// endUnsent ends a page that its receiver refused and whose alerts are over by now: the resolve follows.
func (p *Pager) endUnsent(l *outbox.Message) {
	p.outbox.Answered(l)
	p.recordTry(l, "stopped", "over before the receiver took it", time.Now())
	p.outbox.Settle(l, true)
	if l.Incident != "" {
		p.changed(l.Incident)
	}
}

// givenUp reports whether a message that was not taken is tried no more. A page is tried for as long as it is true.
func (p *Pager) givenUp(ctx context.Context, l *outbox.Message, err error, now time.Time) bool {
	if errors.Is(err, errReceiverGone) || errors.Is(err, errStale) {
		return true
	}
	return now.Sub(time.UnixMilli(l.CreatedAt)) > giveUpAfter && !(l.SaysFiring() && p.stillFires(ctx, l))
}

// stillFires reports whether an incident that a page is about, alone or with others, is open. Where that cannot be read it counts as open.
func (p *Pager) stillFires(ctx context.Context, l *outbox.Message) bool {
	var open bool
	row := p.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM incident WHERE resolved_at = 0 AND
		(id = ? OR id IN (SELECT p.incident FROM page_to t JOIN page p ON p.id = t.page WHERE t.bundle = ? AND t.bundle <> '')))`, l.Incident, l.ID)
	if err := row.Scan(&open); err != nil {
		p.log.Error("read whether a page is still true", "page", l.ID, "err", err)
		return true
	}
	return open
}

// recordTry writes the outcome. A page that left must be on record, so the write is repeated until it succeeds or the
// page would be sent again anyway.
func (p *Pager) recordTry(l *outbox.Message, state, answer string, now time.Time) {
	var leftAt int64
	if state == "delivered" {
		leftAt = now.UnixMilli()
	}
	var e *transaction
	write := func(c *sql.Conn) error {
		e = p.transaction(c)
		answer := answer[:min(len(answer), outbox.MaxAnswer)]
		err := e.exec("write page", `UPDATE page SET state = ?, attempts = ?, next_at = ?, answer = ?, left_at = ?
			WHERE id = ? AND NOT (state = 'stopped' AND ? = 'waiting')`,
			state, l.Attempts, l.NextAt, answer, leftAt, l.ID, state)
		if state == "delivered" && l.Incident != "" && l.ReadingAt != 0 && l.Way != nil {
			err = errors.Join(err, e.event(l.Incident, "timing", l.Receiver, "%s", l.Timing(leftAt)))
		}
		return errors.Join(err, e.tried(l, state, answer, leftAt))
	}
	for range 3 {
		err := p.commits.Do(write)
		if err == nil {
			p.after(e)
			return
		}
		p.log.Error("record a page's delivery", "page", l.ID, "state", state, "err", err)
	}
}

func (p *Pager) logTry(l *outbox.Message, state string, err error, now time.Time) {
	log := p.log.With("page", l.ID, "incident", l.Incident, "receiver", l.Receiver, "integration", l.Integration, "attempts", l.Attempts)
	switch {
	case l.Receiver == alert.Watchdog: // it says itself when that changes
	case state == "delivered":
		if l.ReadingAt != 0 {
			p.metrics.latency.Observe(float64(now.UnixMilli()-l.ReadingAt) / 1000)
		}
		log.Info("page delivered", "after_ms", now.UnixMilli()-l.CreatedAt)
	case state == "failed":
		log.Error("page given up", "err", err)
	case l.Attempts == 1:
		log.Warn("page not delivered, trying again", "err", err)
	}
}

// backoff is how long a message that was not taken waits before the next try.
func (r *routing) backoff(l *outbox.Message) time.Duration {
	if !l.Refused {
		return outbox.Backoff(l.Attempts, outbox.MaxBackoff)
	}
	longest := maxRefusedBackoff
	if d := r.intervalOf[l.Receiver]; d > 0 { // a person's channel has no route
		longest = min(longest, d)
	}
	return min(outbox.Backoff(l.Attempts, longest), longest)
}

// send hands a message to its integration.
func (p *Pager) send(ctx context.Context, l *outbox.Message) (retry bool, err error) {
	to := p.routing.Load().integration(l.Receiver, l.Integration, l.Index)
	if to == nil {
		return false, errReceiverGone
	}
	var body payload
	if err := json.Unmarshal(l.Payload, &body); err != nil {
		return false, fmt.Errorf("decode page %s: %w", l.ID, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, tryTimeout, fmt.Errorf("no answer within %s", tryTimeout))
	defer cancel()
	thread, err := p.openThread(ctx, l)
	if err != nil {
		return true, err
	}
	ctx, alerts := p.enriched(withPageID(messageContext(ctx, l, body), l.ID), l, body.Alerts)
	ctx, retryAfter := withRetryAfter(ctx)
	l.Way, l.SentAt = body.Way, time.Now().UnixMilli()
	retry, err = safeNotify(notify.WithNflogStore(ctx, thread.store), to, alerts)
	l.RetryAfter = retryAfter()
	if f := factsIn(ctx); f != nil {
		l.Drew = f.drew
	}
	if err == nil {
		thread.save(p)
	}
	return retry, err
}

// context gives an integration the values that Alertmanager's pipeline would.
func messageContext(ctx context.Context, l *outbox.Message, body payload) context.Context {
	ctx = notify.WithGroupKey(ctx, l.GroupKey)
	ctx = notify.WithReceiverName(ctx, l.Receiver)
	ctx = notify.WithGroupLabels(ctx, body.GroupLabels)
	ctx = notify.WithRouteLabels(ctx, body.RouteLabels)
	ctx = notify.WithRepeatInterval(ctx, body.RepeatInterval)
	ctx = notify.WithNow(ctx, body.Now)
	return notify.WithNotificationReason(ctx, l.Reason)
}

// safeSend turns a fault in the making of a page into an error: the message is tried again, and holds up no other.
func (p *Pager) safeSend(ctx context.Context, l *outbox.Message) (retry bool, err error) {
	retry, err = true, errFault
	p.faults.guard("send page "+l.ID, func() { retry, err = p.send(ctx, l) })
	return retry, err
}

// safeNotify turns a panic of an integration or its template into an error.
func safeNotify(ctx context.Context, to *notify.Integration, alerts []*amalert.Alert) (retry bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			retry, err = false, fmt.Errorf("integration %s panicked: %v", to, r)
		}
	}()
	return to.Notify(ctx, alerts...)
}

// thread holds an integration's memory of a group between its pages, such as the chat message to update.
type thread struct {
	store   *nflog.Store
	message *outbox.Message
	was     []byte
}

// openThread reads the thread of a message's group; a new one is empty.
func (p *Pager) openThread(ctx context.Context, l *outbox.Message) (*thread, error) {
	t := &thread{message: l}
	row := p.db.QueryRowContext(ctx, `SELECT entry FROM alert_thread WHERE receiver = ? AND integration = ? AND idx = ? AND group_key = ?`,
		l.Receiver, l.Integration, l.Index, l.GroupKey)
	if err := row.Scan(&t.was); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("read thread of page %s: %w", l.ID, err)
	}
	var entry nflogpb.Entry
	if err := proto.Unmarshal(t.was, &entry); err != nil {
		return nil, fmt.Errorf("decode thread of page %s: %w", l.ID, err)
	}
	t.store = nflog.NewStore(&entry)
	return t, nil
}

// save keeps the integration's changes. Losing them costs an edited message, so an error is only logged.
func (t *thread) save(p *Pager) {
	if t.message.GroupKey == "" { // messages that were collected are of no group
		return
	}
	b, err := t.encode(p.threads)
	if err != nil {
		p.log.Error("encode a page's thread", "page", t.message.ID, "err", err)
		return
	}
	if bytes.Equal(b, t.was) {
		return
	}
	l := t.message
	err = p.commits.Do(func(c *sql.Conn) error {
		_, err := c.ExecContext(context.Background(), `INSERT OR REPLACE INTO alert_thread (receiver, integration, idx, group_key, entry, at) VALUES (?,?,?,?,?,?)`,
			l.Receiver, l.Integration, l.Index, l.GroupKey, b, time.Now().UnixMilli())
		return err
	})
	if err != nil {
		p.log.Error("write a page's thread", "page", l.ID, "err", err)
	}
}

// encode goes through a notification log, the only thing that can read a store.
func (t *thread) encode(log *nflog.Log) ([]byte, error) {
	to := &nflogpb.Receiver{GroupName: t.message.ID}
	if err := log.Log(to, t.message.GroupKey, nil, nil, t.store, time.Minute); err != nil {
		return nil, err
	}
	found, err := log.Query(nflog.QGroupKey(t.message.GroupKey), nflog.QReceiver(to))
	if err != nil || len(found[0].ReceiverData) == 0 {
		return nil, err
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(&nflogpb.Entry{ReceiverData: found[0].ReceiverData})
}

// idempotencyHeader carries the page's ID in every HTTP request of every integration, the same in every try.
const idempotencyHeader = "Idempotency-Key"

type pageIDKey struct{}

func withPageID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, pageIDKey{}, id)
}

// pageID puts the page's ID into outgoing requests. Alertmanager's HTTP clients offer one way in from a context, the
// process-wide trace propagator.
type pageID struct{}

// Inject implements propagation.TextMapPropagator.
func (pageID) Inject(ctx context.Context, carrier propagation.TextMapCarrier) {
	if id, ok := ctx.Value(pageIDKey{}).(string); ok {
		carrier.Set(idempotencyHeader, id)
	}
}

// Extract implements propagation.TextMapPropagator.
func (pageID) Extract(ctx context.Context, _ propagation.TextMapCarrier) context.Context { return ctx }

// Fields implements propagation.TextMapPropagator.
func (pageID) Fields() []string { return []string{idempotencyHeader} }

type retryAfterKey struct{}

// withRetryAfter returns a context whose requests note the Retry-After of their last answer, and that value: 0 where there was
// none, maxRetryAfter at most.
func withRetryAfter(ctx context.Context) (context.Context, func() time.Duration) {
	noted := new(atomic.Int64)
	return context.WithValue(ctx, retryAfterKey{}, noted), func() time.Duration { return time.Duration(noted.Load()) }
}

// retryAfterTransport notes the Retry-After of answers.
type retryAfterTransport struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t retryAfterTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.RoundTripper.RoundTrip(r)
	if noted, ok := r.Context().Value(retryAfterKey{}).(*atomic.Int64); ok && err == nil {
		noted.Store(int64(readRetryAfter(answer.Header.Get("Retry-After"), time.Now())))
	}
	return answer, err
}

// readRetryAfter reads the header's value, seconds or a date; 0 where it is neither.
func readRetryAfter(text string, now time.Time) time.Duration {
	if at, err := http.ParseTime(text); err == nil {
		return min(max(0, at.Sub(now)), maxRetryAfter)
	}
	seconds, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxRetryAfter)
}

// noteRetryAfter has the HTTP client of one of Alertmanager's integrations note Retry-After. They give no way to the headers of an
// answer but their field of the name client; a test sends through each of them.
func noteRetryAfter(integration reflect.Value) {
	for integration.Kind() == reflect.Interface || integration.Kind() == reflect.Pointer {
		integration = integration.Elem()
	}
	if integration.Kind() != reflect.Struct {
		return
	}
	field := integration.FieldByName("client")
	if !field.IsValid() || field.Type() != reflect.TypeFor[*http.Client]() || field.IsNil() {
		return
	}
	client := (*http.Client)(field.UnsafePointer())
	client.Transport = retryAfterTransport{client.Transport}
}

var carryPageIDs = sync.OnceFunc(func() {
	otel.SetTextMapPropagator(pageID{})
})

// receiverHealth remembers how the last try of each receiver's integration went: the metric bramble_receiver_failing. A
// receiver that is taken out of the configuration fails no more.
type receiverHealth struct {
	desc    *prometheus.Desc
	inForce func(receiver, integration string) bool

	mu      sync.Mutex
	failing map[receiverName]bool
}

type receiverName struct{ receiver, integration string }

func newReceiverHealth(inForce func(receiver, integration string) bool) *receiverHealth {
	return &receiverHealth{
		desc: prometheus.NewDesc("bramble_receiver_failing", "1 where the last try to deliver a page through a receiver failed.",
			[]string{"receiver", "integration"}, nil),
		inForce: inForce, failing: map[receiverName]bool{},
	}
}

func (h *receiverHealth) note(receiver, integration string, failed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failing[receiverName{receiver, integration}] = failed
}

// Describe implements prometheus.Collector.
func (h *receiverHealth) Describe(out chan<- *prometheus.Desc) { out <- h.desc }

// Collect implements prometheus.Collector.
func (h *receiverHealth) Collect(out chan<- prometheus.Metric) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, failing := range h.failing {
		value := 0.0
		if failing && h.inForce(name.receiver, name.integration) {
			value = 1
		}
		out <- prometheus.MustNewConstMetric(h.desc, prometheus.GaugeValue, value, name.receiver, name.integration)
	}
}

// integrates reports whether the configuration has such an integration.
func (p *Pager) integrates(receiver, integration string) bool {
	r := p.routing.Load()
	if r == nil {
		return false
	}
	for i := range r.integrations[receiver] {
		if r.integrations[receiver][i].Name() == integration {
			return true
		}
	}
	return false
}
