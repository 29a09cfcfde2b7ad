package storage

import (
	"context"
	"errors"
	"sync"
	"time"
)

// gate counts the calls inside a store, so that closing waits for them. The zero value is open.
type gate struct {
	mu     sync.Mutex
	shut   error           // why nobody gets in; nil while the store is open
	cut    context.Context // done when the calls that still run have to stop
	cutNow context.CancelFunc
	inside sync.WaitGroup
	once   sync.Once
}

// enter returns nil if the store is open, and the caller must leave; else why it is not.
func (g *gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == nil {
		g.inside.Add(1)
	}
	return g.shut
}

// open lets callers in, unless the gate was closed.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if errors.Is(g.shut, ErrNotOpen) {
		g.shut = nil
	}
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
