package receivers

import (
	"context"
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
	"github.com/prometheus/alertmanager/notify"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"

	"bramble/alerting/outbox"
)

const (
	// TryTimeout is how long a provider may take to answer.
	TryTimeout = 5 * time.Second
	// maxRetryAfter bounds how long a provider may put a page off by Retry-After.
	maxRetryAfter = time.Hour
)

// botToken is the secret in the address of Telegram's API, which its library puts into errors.
var botToken = regexp.MustCompile(`/bot[^/\s"]+`)

// hidden is an error whose text lacks a secret.
type hidden struct {
	text string
	error
}

func (h hidden) Error() string { return h.text }

func (h hidden) Unwrap() error { return h.error }

// WithoutSecrets takes the secret out of an integration's error; Alertmanager's own integrations do it themselves.
func WithoutSecrets(integration string, err error) error {
	if err == nil || integration != "telegram" {
		return err
	}
	return hidden{botToken.ReplaceAllString(err.Error(), "/bot<redacted>"), err}
}

// ErrGone is the answer for a page whose receiver a reload removed.
var ErrGone = errors.New("the receiver is no longer in the configuration")

// Send hands a message to its integration once, with the facts of its incident; thread is the integration's memory of the message's
// group. It notes in the message how the try went. retry is false for an answer that says "never".
func (s *Set) Send(ctx context.Context, l *outbox.Message, thread *nflog.Store) (retry bool, err error) {
	to := s.Find(l.Receiver, l.Integration, l.Index)
	if to == nil {
		return false, ErrGone
	}
	var body outbox.Body
	if err := json.Unmarshal(l.Payload, &body); err != nil {
		return false, fmt.Errorf("decode page %s: %w", l.ID, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, TryTimeout, fmt.Errorf("no answer within %s", TryTimeout))
	defer cancel()
	ctx, alerts := s.enriched(messageContext(ctx, l, &body), l, body.Alerts)
	ctx, retryAfter := withRetryAfter(ctx)
	l.Way, l.SentAt = body.Way, time.Now().UnixMilli()
	retry, err = Notify(notify.WithNflogStore(ctx, thread), to, alerts)
	l.RetryAfter = retryAfter()
	if f := factsIn(ctx); f != nil {
		l.Drew = f.drew
	}
	return retry, err
}

// messageContext gives an integration the values that Alertmanager's pipeline would, and the page's ID.
func messageContext(ctx context.Context, l *outbox.Message, body *outbox.Body) context.Context {
	ctx = notify.WithGroupKey(ctx, l.GroupKey)
	ctx = notify.WithReceiverName(ctx, l.Receiver)
	ctx = notify.WithGroupLabels(ctx, body.GroupLabels)
	ctx = notify.WithRouteLabels(ctx, body.RouteLabels)
	ctx = notify.WithRepeatInterval(ctx, body.RepeatInterval)
	ctx = notify.WithNow(ctx, body.Now)
	return withPageID(notify.WithNotificationReason(ctx, l.Reason), l.ID)
}

// Notify has an integration notify; a panic of it or of its template becomes an error.
func Notify(ctx context.Context, to *notify.Integration, alerts []*amalert.Alert) (retry bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			retry, err = false, fmt.Errorf("integration %s panicked: %v", to, r)
		}
	}()
	return to.Notify(ctx, alerts...)
}

// IdempotencyHeader carries the page's ID in every HTTP request of every integration, the same in every try.
const IdempotencyHeader = "Idempotency-Key"

type pageIDKey struct{}

// withPageID returns a context whose HTTP requests carry a page's ID.
func withPageID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, pageIDKey{}, id)
}

// PageID is the ID of the page that a context sends, false for one that stands in no journal.
func PageID(ctx context.Context) (string, bool) {
	id, ok := ctx.Value(pageIDKey{}).(string)
	return id, ok
}

// pageID puts the page's ID into outgoing requests. Alertmanager's HTTP clients offer one way in from a context, the
// process-wide trace propagator.
type pageID struct{}

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

// CarryPageIDs has the process's HTTP requests carry the IDs of pages.
var CarryPageIDs = sync.OnceFunc(func() {
	otel.SetTextMapPropagator(pageID{})
})

// Inject implements propagation.TextMapPropagator.
func (pageID) Inject(ctx context.Context, carrier propagation.TextMapCarrier) {
	if id, ok := PageID(ctx); ok {
		carrier.Set(IdempotencyHeader, id)
	}
}

// Extract implements propagation.TextMapPropagator.
func (pageID) Extract(ctx context.Context, _ propagation.TextMapCarrier) context.Context { return ctx }

// Fields implements propagation.TextMapPropagator.
func (pageID) Fields() []string { return []string{IdempotencyHeader} }
