package alerting

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// pictureSpan is how much of the past a picture shows.
	pictureSpan = 30 * time.Minute
	// pictureStep is the time between two of its points, that of readings at the default rate.
	pictureStep = 10 * time.Second
	// pictureBudget is the longest that a page waits for its picture; then it leaves without.
	pictureBudget = 300 * time.Millisecond
	// drawnAtOnce is how many pictures are drawn at a time, keptPictures how many stay in memory (about 30 kB each).
	drawnAtOnce  = 2
	keptPictures = 128
)

// ErrNoPicture is for what cannot be drawn: an alert that came by the API, a rule that is gone, no readings.
var ErrNoPicture = errors.New("there is nothing to draw")

// Pictures draws incidents: the half hour before a page of the series that fired, and the line that they crossed. All
// methods are safe for concurrent use; a nil Pictures draws nothing.
type Pictures struct {
	engine *Engine
	store  RangeQuerier
	log    *slog.Logger
	budget time.Duration // that a page waits
	turn   chan struct{} // as many as are drawn at a time
	wg     sync.WaitGroup

	mu    sync.Mutex
	kept  map[pictureKey]*drawing
	order []pictureKey // the oldest first
}

type pictureKey struct {
	incident string
	at       int64
}

// drawing is a picture that is drawn, or being drawn until done is closed.
type drawing struct {
	done chan struct{}
	png  []byte
	err  error
}

// NewPictures draws what the engine's rules say from what the store holds.
func NewPictures(engine *Engine, store RangeQuerier, log *slog.Logger) *Pictures {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Pictures{engine: engine, store: store, log: log, budget: pictureBudget, turn: make(chan struct{}, drawnAtOnce), kept: map[pictureKey]*drawing{}}
}

// Draw returns an incident's picture as it is at a time, a PNG of 1200 by 600 pixels. Where it takes longer than ctx
// allows, drawing goes on for the next who asks.
func (p *Pictures) Draw(ctx context.Context, in *Incident, at time.Time) ([]byte, error) {
	if p == nil {
		return nil, ErrNoPicture
	}
	key := pictureKey{in.ID, at.UnixMilli()}
	p.mu.Lock()
	d := p.kept[key]
	if d == nil {
		d = &drawing{done: make(chan struct{})}
		p.keep(key, d)
		p.wg.Go(func() { p.draw(d, key, in, at) })
	}
	p.mu.Unlock()
	select {
	case <-d.done:
		return d.png, d.err
	case <-ctx.Done():
		return nil, fmt.Errorf("draw incident %s: %w", in.ID, context.Cause(ctx))
	}
}

// drawable reports whether there is anything to draw of an incident, without drawing it.
func (p *Pictures) drawable(in *Incident) bool {
	if p == nil {
		return false
	}
	_, ok := p.engine.crossing(in.lead().Rule, nil)
	return ok
}

// Close waits for what is being drawn. Nobody calls Draw any more.
func (p *Pictures) Close() {
	if p != nil {
		p.wg.Wait()
	}
}

// keep holds mu.
func (p *Pictures) keep(key pictureKey, d *drawing) {
	p.kept[key] = d
	p.order = append(p.order, key)
	if len(p.order) > keptPictures {
		delete(p.kept, p.order[0])
		p.order = append(p.order[:0], p.order[1:]...)
	}
}

// draw ends by itself: its queries have a time limit.
func (p *Pictures) draw(d *drawing, key pictureKey, in *Incident, at time.Time) {
	defer close(d.done)
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	defer func() {
		if r := recover(); r != nil {
			d.png, d.err = nil, fmt.Errorf("draw incident %s: panic: %v", in.ID, r)
		}
		if d.err != nil {
			p.forget(key) // what failed is tried again when somebody asks again
			if !errors.Is(d.err, ErrNoPicture) {
				p.log.Warn("incident not drawn", "incident", in.ID, "err", d.err)
			}
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), tryTimeout)
	defer cancel()
	d.png, d.err = p.paint(ctx, in, at)
}

func (p *Pictures) forget(key pictureKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.kept, key)
	for i, k := range p.order {
		if k == key {
			p.order = append(p.order[:i], p.order[i+1:]...)
			return
		}
	}
}

// paint reads what the picture shows, then draws it.
func (p *Pictures) paint(ctx context.Context, in *Incident, at time.Time) ([]byte, error) {
	shown, err := p.read(ctx, in, at)
	if err != nil {
		return nil, err
	}
	c, err := newCanvas()
	if err != nil {
		return nil, err
	}
	shown.draw(c)
	return c.png()
}
