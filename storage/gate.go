package storage

import (
	"context"
	"sync"
	"time"
)

// gate counts the calls inside a store, so that closing waits for them. The zero value is open.
type gate struct {
	mu     sync.Mutex
	closed bool
	cut    context.Context // done when the calls that still run have to stop
	cutNow context.CancelFunc
	inside sync.WaitGroup
	once   sync.Once
}

// enter reports whether the store is open; if so, the caller must leave.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.inside.Add(1)
	return true
}

func (g *gate) leave() { g.inside.Done() }

// whenCut arranges for f to run when the gate stops waiting. The returned function takes that back.
func (g *gate) whenCut(f func()) (stop func() bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cut == nil {
		g.cut, g.cutNow = context.WithCancel(context.Background())
	}
	return context.AfterFunc(g.cut, f)
}

// close shuts the gate, waits until everybody has left, then runs release, once.
func (g *gate) close(grace time.Duration, release func()) {
	g.once.Do(func() {
		g.mu.Lock()
		g.closed = true
		cut := g.cutNow
		g.mu.Unlock()
		if cut != nil {
			defer time.AfterFunc(grace, cut).Stop()
		}
		g.inside.Wait()
		release()
	})
}
