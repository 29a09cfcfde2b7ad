// Package lifecycle holds the parts that every store has between its opening and its end: a gate for
// the calls inside it, the metrics that a registry was given, and states whose changes are logged.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	// ErrNotOpen is the reason of a gate that was not opened yet.
	ErrNotOpen = errors.New("store is not open")
	// ErrClosed is the reason of a gate that was closed.
	ErrClosed = errors.New("store is closed")
)

// CloseGrace is how long running requests may take to finish, once their store is closed, before their
// connections are cut.
const CloseGrace = 5 * time.Second

// Gate counts the calls inside a store, so that closing waits for them. The zero value is open. It is
// safe for concurrent use.
type Gate struct {
	mu     sync.Mutex
	shut   error           // why nobody gets in; nil while the store is open
	cut    context.Context // done when the calls that still run have to stop
	cutNow context.CancelFunc
	inside sync.WaitGroup
	once   sync.Once
}

// Shut makes the gate one that Open opens.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = ErrNotOpen
}

// Enter returns nil if the store is open, and the caller must leave; else why it is not.
func (g *Gate) Enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == nil {
		g.inside.Add(1)
	}
	return g.shut
}

// Open lets callers in, unless the gate was closed.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if errors.Is(g.shut, ErrNotOpen) {
		g.shut = nil
	}
}

// Leave ends a call that Enter let in.
func (g *Gate) Leave() { g.inside.Done() }

// WhenCut arranges for f to run when the gate stops waiting. The returned function takes that back.
func (g *Gate) WhenCut(f func()) (stop func() bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cut == nil {
		g.cut, g.cutNow = context.WithCancel(context.Background())
	}
	return context.AfterFunc(g.cut, f)
}

// Close shuts the gate, waits until everybody has left, then runs release, once.
func (g *Gate) Close(grace time.Duration, release func()) {
	g.once.Do(func() {
		g.mu.Lock()
		g.shut = ErrClosed
		cut := g.cutNow
		g.mu.Unlock()
		if cut != nil {
			defer time.AfterFunc(grace, cut).Stop()
		}
		g.inside.Wait()
		release()
	})
}

// Registration holds the collectors that a registry was given, so that they can be taken back. The
// zero value has none. It is for one goroutine.
type Registration struct {
	at    prometheus.Registerer
	given []prometheus.Collector
}

// Register gives r collectors, all of them or none. A nil r gets nothing.
func (g *Registration) Register(r prometheus.Registerer, collectors ...prometheus.Collector) error {
	if r == nil {
		return nil
	}
	g.at = r
	for _, c := range collectors {
		if err := r.Register(c); err != nil {
			g.Unregister()
			return fmt.Errorf("register metrics: %w", err)
		}
		g.given = append(g.given, c)
	}
	return nil
}

// Unregister takes back all that was given.
func (g *Registration) Unregister() {
	for _, c := range g.given {
		g.at.Unregister(c)
	}
	g.given = nil
}

// Desc describes a metric of a store.
func Desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("bramble_storage_"+name, help, labels, nil)
}

// The metrics that every store has.
var (
	RowsDropped = Desc("rows_dropped_total", "Rows that the store could not take since it was opened, by reason.", "reason")
	FreeBytes   = Desc("disk_free_bytes", "Free space where the store is.")
	FreeLimit   = Desc("disk_free_limit_bytes", "Free space below which the store refuses rows.")
	ReadOnly    = Desc("read_only", "1 while the store refuses rows for want of disk space.")
)

// Transition remembers a state, so that only its changes are logged. The zero value is false. It is
// safe for concurrent use.
type Transition struct{ state atomic.Bool }

// Changed notes the state and reports whether it was another one.
func (t *Transition) Changed(to bool) bool {
	return t.state.Load() != to && t.state.CompareAndSwap(!to, to)
}
