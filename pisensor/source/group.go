package source

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"bramble/pisensor/report"
)

const (
	// patience is how long a source may take before it may be given up. The
	// firmware's slowest answer is a few ms; the kernel's own time-out for the
	// mailbox is 1 s, an NFS server's is minutes.
	patience = 150 * time.Millisecond
	// scratchSize bounds what one source can read at once. Only what is used of
	// it becomes resident.
	scratchSize = 64 << 10
)

// Group reads its sources in order. It is a sensor.Source.
//
// The reading is done by a worker goroutine. Where a source takes longer than
// patience, the worker is left to it and another one goes on with the next
// source; the one that hangs is not asked again before it has come back, so
// that there are never more goroutines than sources. In a tick that goes well
// the two goroutines hand over twice, on one thread.
//
// One goroutine may use a Group.
type Group struct {
	log   *slog.Logger
	timer *time.Timer
	done  chan struct{} // the worker has gone through all

	mu       sync.Mutex
	items    []*item
	worker   *worker
	now      time.Time // of the pass
	turn     int       // the item whose turn it was last
	reading  *item     // that is being read now; nil between two
	readings []report.Reading
	closed   bool
}

// item is a source and how it has fared. The group's mutex guards it.
type item struct {
	Item
	last    time.Time
	hanging bool
	errors  int64
	news    error // not yet logged
	told    bool  // an error has been logged: further ones are only counted
}

// worker reads for a group. When it is no longer the group's worker, a source
// has hung in its hands.
type worker struct {
	begin   chan struct{}
	ended   chan struct{}
	tick    report.Tick
	scratch []byte
}

var errHanging = errors.New("does not answer; it is asked again when it has")

// NewGroup returns a group of sources. It opens nothing and starts nothing
// before the first Read.
func NewGroup(log *slog.Logger, items ...Item) *Group {
	g := &Group{log: log, timer: time.NewTimer(time.Hour), done: make(chan struct{}, 1)}
	g.timer.Stop()
	for _, i := range items {
		g.items = append(g.items, &item{Item: i})
	}
	return g
}

// Read adds what the sources say now, and the error counters of those that
// ever failed. It returns within milliseconds; each source that begins to
// hang costs up to twice patience once.
func (g *Group) Read(t *report.Tick) {
	g.begin()
	for seen := (*item)(nil); ; {
		g.timer.Reset(patience)
		select {
		case <-g.done:
			g.timer.Stop()
			g.finish(t)
			return
		case <-g.timer.C:
			seen = g.check(seen)
		}
	}
}

// begin has the worker start a pass.
func (g *Group) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now, g.turn, g.readings = time.Now(), -1, g.readings[:0]
	if g.worker == nil {
		g.hire()
	}
	g.worker.tick.Reset()
	g.worker.begin <- struct{}{}
}

// hire makes a new goroutine the worker.
func (g *Group) hire() {
	g.worker = &worker{
		begin: make(chan struct{}, 1), ended: make(chan struct{}),
		scratch: make([]byte, scratchSize),
	}
	go g.work(g.worker)
}

func (g *Group) work(w *worker) {
	defer close(w.ended)
	for range w.begin {
		var err error
		for i := g.next(w, nil, nil); i != nil; i = g.next(w, i, err) {
			err = i.Reader.Read(&w.tick, w.scratch)
		}
	}
}

// next takes note of how a read went and returns the item to read next, or nil
// when all have had their turn.
func (g *Group) next(w *worker, was *item, err error) *item {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.worker != w {
		g.cameBack(was)
		return nil
	}
	if was != nil {
		was.note(err)
		g.readings = w.tick.Readings
	}
	g.reading = nil
	for g.turn++; g.turn < len(g.items); g.turn++ {
		if i := g.items[g.turn]; i.due(g.now) {
			g.reading = i
			return i
		}
	}
	g.done <- struct{}{}
	return nil
}

// cameBack takes note of the end of a read that was given up. What it has read
// is of another time.
func (g *Group) cameBack(i *item) {
	i.hanging = false
	if g.closed {
		i.news = i.Reader.Close() // nobody is left to be told
	}
}

// check gives up the source that is being read, if it is the one that was
// being read at the last check, and returns which one is. One check alone would
// not do: the whole process may have been stopped.
func (g *Group) check(seen *item) *item {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reading == nil || g.reading != seen {
		return g.reading
	}
	g.reading.hanging = true
	g.reading.note(errHanging)
	g.reading = nil
	close(g.worker.begin)
	g.hire()
	g.worker.tick.Readings = append(g.worker.tick.Readings, g.readings...)
	g.worker.begin <- struct{}{}
	return nil
}

// finish adds what the pass has read, and logs the first error of each source.
func (g *Group) finish(t *report.Tick) {
	g.mu.Lock()
	t.Readings = append(t.Readings, g.readings...)
	var news []slog.Attr
	for _, i := range g.items {
		if i.errors > 0 {
			t.AddInstance(report.SensorReadErrors, i.Name, i.errors)
		}
		if i.news != nil {
			news = append(news, slog.Any(i.Name, i.news))
			i.news = nil
		}
	}
	g.mu.Unlock()
	for _, n := range news {
		g.log.Warn("a source gives no reading, further errors are only counted", "source", n.Key, "error", n.Value)
	}
}

// due decides whether it is the item's turn, and counts a turn that it misses.
func (i *item) due(now time.Time) bool {
	if i.Every > 0 && !i.last.IsZero() && now.Sub(i.last) < i.Every {
		return false
	}
	i.last = now
	if i.hanging {
		i.errors++
	}
	return !i.hanging
}

func (i *item) note(err error) {
	if err == nil || errors.Is(err, ErrAbsent) {
		return
	}
	i.errors++
	if !i.told {
		i.told, i.news = true, err
	}
}

// Close ends the worker and closes the sources. One that hangs is left to its
// fate: it is closed when it comes back.
func (g *Group) Close() error {
	g.mu.Lock()
	w := g.worker
	g.worker, g.closed = nil, true
	var idle []*item
	for _, i := range g.items {
		if !i.hanging {
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
