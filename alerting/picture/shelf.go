package picture

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// drawnAtOnce is how many pictures are drawn at a time, keptPictures how many stay in memory (about 30 kB each).
	drawnAtOnce  = 2
	keptPictures = 128
)

// Shelf draws pictures once and keeps the recent ones. All methods are safe for concurrent use.
type Shelf struct {
	failed func(subject string, err error)
	turn   chan struct{} // as many as are drawn at a time
	wg     sync.WaitGroup

	mu    sync.Mutex
	kept  map[shelfKey]*drawing
	order []shelfKey // the oldest first
}

type shelfKey struct {
	subject string
	at      int64
}

// drawing is a picture that is drawn, or being drawn until done is closed.
type drawing struct {
	done chan struct{}
	png  []byte
	err  error
}

// NewShelf returns an empty shelf. It calls failed for each picture that could not be drawn, whether or not somebody
// still waits for it.
func NewShelf(failed func(subject string, err error)) *Shelf {
	return &Shelf{failed: failed, turn: make(chan struct{}, drawnAtOnce), kept: map[shelfKey]*drawing{}}
}

// Draw returns the picture of a subject at a time, as Picture.PNG makes it. Where there is none yet, read returns its
// content; read must end by itself. Where that takes longer than ctx allows, drawing goes on for the next call. A failed
// drawing is tried again by the next call.
func (s *Shelf) Draw(ctx context.Context, subject string, at time.Time, read func() (*Picture, error)) ([]byte, error) {
	key := shelfKey{subject, at.UnixMilli()}
	s.mu.Lock()
	d := s.kept[key]
	if d == nil {
		d = &drawing{done: make(chan struct{})}
		s.keep(key, d)
		s.wg.Go(func() { s.draw(d, key, read) })
	}
	s.mu.Unlock()
	select {
	case <-d.done:
		return d.png, d.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Close waits for drawings in progress. Draw must not be called any more.
func (s *Shelf) Close() { s.wg.Wait() }

// keep holds mu.
func (s *Shelf) keep(key shelfKey, d *drawing) {
	s.kept[key] = d
	s.order = append(s.order, key)
	if len(s.order) > keptPictures {
		delete(s.kept, s.order[0])
		s.order = append(s.order[:0], s.order[1:]...)
	}
}

func (s *Shelf) draw(d *drawing, key shelfKey, read func() (*Picture, error)) {
	defer close(d.done)
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	defer func() {
		if r := recover(); r != nil {
			d.png, d.err = nil, fmt.Errorf("panic: %v", r)
		}
		if d.err != nil {
			s.forget(key)
			s.failed(key.subject, d.err)
		}
	}()
	p, err := read()
	if err != nil {
		d.err = err
		return
	}
	d.png, d.err = p.PNG()
}

func (s *Shelf) forget(key shelfKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept, key)
	for i, k := range s.order {
		if k == key {
			s.order = append(s.order[:i], s.order[i+1:]...)
			return
		}
	}
}
