// Package fault catches panics where an alert or a page is handled, so that a fault in the code costs one of them a step and never
// the process.
package fault

import (
	"errors"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// Err is the error of a step that met a fault, and the answer for a page that could not be made.
var Err = errors.New("a fault in the collector: see its log")

// Guard calls functions that may panic. It is safe for concurrent use.
type Guard struct {
	count prometheus.Counter
	log   *slog.Logger
	lines rate.Sometimes // the same alert may cause one again and again
}

// NewGuard returns a guard that counts and logs the faults it meets.
func NewGuard(count prometheus.Counter, log *slog.Logger) *Guard {
	return &Guard{count: count, log: log, lines: rate.Sometimes{First: 10, Interval: time.Minute}}
}

// Run calls f and reports whether it came to its end. The state that f changes may be half changed where it did not.
func (g *Guard) Run(where string, f func()) (ended bool) {
	defer func() {
		if v := recover(); v != nil {
			g.count.Inc()
			g.lines.Do(func() {
				g.log.Error("a fault in the collector was met on the way of a page; please report it", "where", where, "panic", v, "stack", string(debug.Stack()))
			})
		}
	}()
	f()
	return true
}

// Ask returns the answer to a question about an alert, and false after a fault: where the question is whether something suppresses
// the alert, it pages.
func (g *Guard) Ask(where string, f func() bool) (yes bool) {
	return g.Run(where, func() { yes = f() }) && yes
}
