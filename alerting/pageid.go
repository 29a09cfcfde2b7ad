package alerting

import (
	"context"
	"sync"

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

var carryPageIDs = sync.OnceFunc(func() {
	otel.SetTextMapPropagator(pageID{})
})
