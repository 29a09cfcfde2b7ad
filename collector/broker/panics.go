package broker

import (
	"log/slog"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// panics catches panics where a client is served, so that a fault in the code
// costs one connection and never the process. It is safe for concurrent use.
type panics struct {
	count, suppressed prometheus.Counter
	log               *slog.Logger
	lines             *rate.Limiter // a client can repeat the cause of one
}

func newPanics(count *metrics, log *slog.Logger) *panics {
	return &panics{count: count.panics, suppressed: count.suppressed, log: log, lines: rate.NewLimiter(logRate, logBurst)}
}

// caught is to be deferred by the function that serves the client. where is
// the place that the log names.
func (p *panics) caught(where string) {
	v := recover()
	if v == nil {
		return
	}
	p.count.Inc()
	if !p.lines.Allow() {
		p.suppressed.Inc()
		return
	}
	p.log.Error("a fault in the collector has ended one connection; please report it", "where", where, "panic", v, "stack", string(debug.Stack()))
}
