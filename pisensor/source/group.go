package source

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"bramble/pisensor/report"
)

const (
	// patience is how long a source may take before it may be given up. The
	// firmware's slowest answer is a few ms; the kernel's own time-out for the
	// mailbox is 1 s, an NFS server's is minutes.
	patience = 150 * time.Millisecond
	// scratchSize bounds the bytes that one source can read at once. Only its used pages become
	// resident.
	scratchSize = 64 << 10
)

// Group reads its sources in order. It is a sensor.Source.
//
// A source that says that it is Prompt is read where it stands. Any other is read by a worker
// goroutine. Where that takes longer than patience, the worker is left behind with it, and the next
// source gets another one; the source that hangs is not asked again before it has come back, so
// that there are never more goroutines than sources. In a tick that goes well no goroutine wakes
// another one up, or one does twice, on one thread.
//
// One goroutine may use a Group.
type Group struct {
	log     *slog.Logger
	timer   *time.Timer
	scratch []byte

	mu     sync.Mutex
	items  []*item
	worker *worker // nil = none, or it is left to a source
	closed bool
}

// item is a source and how it has fared. The group's mutex guards the moment in
// which it begins or ends to hang; all else is its reader's.
type item struct {
	Item
	prompt  Prompt // nil = every read may wait
	last    time.Time
	hanging atomic.Bool
	errors  int64
	news    error // not yet logged
	logged  bool  // an error has been logged: further ones are only counted
}

// worker reads for a group.
type worker struct {
	begin   chan *item
	done    chan error // how the read went
	ended   chan struct{}
	left    bool // a source hangs in its hands; the group's mutex guards it
	tick    report.Tick
	scratch []byte
}

var errHanging = errors.New("does not answer; it is asked again when it has")

// NewGroup returns a group of sources. It opens nothing and starts nothing
// before the first Read.
func NewGroup(log *slog.Logger, items ...Item) *Group {
	g := &Group{log: log, timer: time.NewTimer(time.Hour), scratch: make([]byte, scratchSize)}
	g.timer.Stop()
	for _, i := range items {
		prompt, _ := i.Reader.(Prompt)
		g.items = append(g.items, &item{Item: i, prompt: prompt})
	}
	return g
}

// Read adds the sources' readings, and the error counters of those that ever failed. It returns
// within milliseconds; each source that begins to hang costs twice patience once.
func (g *Group) Read(t *report.Tick) {
	now, news := time.Now(), false
	for _, i := range g.items {
		if i.due(now) {
			news = g.read(i, t) || news
		}
	}
	for _, i := range g.items {
		if i.errors > 0 {
			t.AddInstance(report.SensorReadErrors, i.Name, i.errors)
		}
	}
	if news {
		g.logErrors()
	}
}

// due decides whether it is the item's turn, which one that hangs misses.
func (i *item) due(now time.Time) bool {
	if i.Every > 0 && !i.last.IsZero() && now.Sub(i.last) < i.Every {
		return false
	}
	i.last = now
	if !i.hanging.Load() {
		return true
	}
	i.errors++
	return false
}

// read reads one item and reports whether there is something to log.
func (g *Group) read(i *item, t *report.Tick) (news bool) {
	var err error
	if i.prompt != nil && i.prompt.Prompt() {
		err = i.Reader.Read(t, g.scratch)
	} else {
		err = g.ask(i, t)
	}
	return err != nil && i.note(err)
}

// ask has the worker read an item, and leaves it to that where it hangs.
func (g *Group) ask(i *item, t *report.Tick) error {
	w := g.hire()
	w.tick.Readings = append(w.tick.Readings[:0], t.Readings...)
	w.begin <- i
	// One time-out alone would not do: the whole process may have been stopped.
	for range 2 {
		g.timer.Reset(patience)
		select {
		case err := <-w.done:
			g.timer.Stop()
			t.Readings = append(t.Readings[:0], w.tick.Readings...)
			return err
		case <-g.timer.C:
		}
	}
	return g.leave(i, t)
}

// hire returns the worker, a new goroutine where there is none.
func (g *Group) hire() *worker {
	if g.worker == nil {
		g.worker = &worker{
			begin: make(chan *item, 1), done: make(chan error, 1), ended: make(chan struct{}),
			scratch: make([]byte, scratchSize),
		}
		go g.work(g.worker)
	}
	return g.worker
}

// leave gives the item up, unless it has answered in the last moment.
func (g *Group) leave(i *item, t *report.Tick) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.worker
	select {
	case err := <-w.done:
		t.Readings = append(t.Readings[:0], w.tick.Readings...)
		return err
	default:
	}
	close(w.begin)
	w.left, g.worker = true, nil
	i.hanging.Store(true)
	return errHanging
}

func (g *Group) work(w *worker) {
	defer close(w.ended)
	for i := range w.begin {
		g.finished(w, i, i.Reader.Read(&w.tick, w.scratch))
	}
}

// finished hands over a read's error. The readings of a worker that was left behind are of another
// time, and are dropped.
func (g *Group) finished(w *worker, i *item, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !w.left {
		w.done <- err
		return
	}
	i.hanging.Store(false)
	if g.closed {
		_ = i.Reader.Close() // nobody is left to take the error
	}
}

// logErrors logs the first error of each source.
func (g *Group) logErrors() {
	for _, i := range g.items {
		if i.news != nil {
			g.log.Warn("a source gives no reading, further errors are only counted", "source", i.Name, "err", i.news)
			i.news = nil
		}
	}
}

// note counts an error and reports whether it is to be logged.
func (i *item) note(err error) bool {
	if errors.Is(err, ErrAbsent) {
		return false
	}
	i.errors++
	if i.logged {
		return false
	}
	i.logged, i.news = true, err
	return true
}

// Close ends the worker and closes the sources. One that hangs is left to its
// fate: it is closed when it comes back.
func (g *Group) Close() error {
	g.mu.Lock()
	w := g.worker
	g.worker, g.closed = nil, true
	var idle []*item
	for _, i := range g.items {
		if !i.hanging.Load() {
			idle = append(idle, i)
		}
	}
	g.mu.Unlock()
	if w != nil {
		close(w.begin)
		<-w.ended
	}
	var errs []error
	for _, i := range idle {
		if err := i.Reader.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", i.Name, err))
		}
	}
	return errors.Join(errs...)
}
