package alerting

import (
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// faults catches panics where an alert or a page is handled, so that a fault in the code costs one of them its domain or a try
// and never the process. It is safe for concurrent use.
type faults struct {
	count prometheus.Counter
	log   *slog.Logger
	lines rate.Sometimes // the same alert may cause one again and again
}

func newFaults(count prometheus.Counter, log *slog.Logger) *faults {
	return &faults{count: count, log: log, lines: rate.Sometimes{First: 10, Interval: time.Minute}}
}

// guard calls f and reports whether it came to its end. The state that f changes may be half changed where it did not.
func (s *faults) guard(where string, f func()) (ended bool) {
	defer func() {
		if v := recover(); v != nil {
			s.count.Inc()
			s.lines.Do(func() {
				s.log.Error("a fault in the collector was met on the way of a page; please report it", "where", where, "panic", v, "stack", string(debug.Stack()))
			})
		}
	}()
	f()
	return true
}

// Guard calls f and reports whether it came to its end; a panic is counted and logged, and goes no further.
func (p *Pager) Guard(where string, f func()) (ended bool) { return p.faults.guard(where, f) }
