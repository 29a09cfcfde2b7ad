package alerting

import (
	"context"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
)

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
