package dashboards

import (
	"context"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	// fleetInterval bounds fleet messages to 10 a second: more is not seen, only paid for.
	fleetInterval = 100 * time.Millisecond
	// beatInterval is below the 5 s after which the page says that it is behind.
	beatInterval = 2 * time.Second
	// maxClients bounds the memory that browsers can take.
	maxClients = 4096
)

// Hub holds the latest reading of every series of every board and passes changes to
// browsers. Publish never blocks on a browser, and without one it only keeps the
// latest values. A Hub is safe for concurrent use.
type Hub struct {
	metrics   *hubMetrics
	incidents func(context.Context) ([]byte, error) // the message for Alerts
	wake      chan struct{}
	changed   chan struct{}
	tenancy   tenancy // nil: no board is a customer's
	running   sync.WaitGroup

	mu      sync.Mutex
	boards  map[string]*boardState
	dirty   []*boardState
	clients map[*client]struct{}
	fleet   int // clients that subscribe to the fleet
	stop    context.CancelFunc
	closed  bool
}

func newHub(m *hubMetrics, incidents func(context.Context) ([]byte, error)) *Hub {
	return &Hub{
		metrics:   m,
		incidents: incidents,
		wake:      make(chan struct{}, 1),
		changed:   make(chan struct{}, 1),
		boards:    map[string]*boardState{},
		clients:   map[*client]struct{}{},
	}
}

// Publish stores the readings of one board at a time in Unix milliseconds and passes
// them on. A reading not later than the last of its series is ignored; NaN and
// infinity mean that the series has no value now. values is not kept.
func (h *Hub) Publish(board string, at int64, values []Value) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.boards[board]
	if b == nil {
		b = newBoardState(board)
		h.boards[b.name] = b
	}
	if !b.store(at, values) {
		return
	}
	if len(b.watchers) > 0 {
		h.offerAll(h.entitled(b, at), prepare(b.appendReading(nil, at)))
	}
	if h.fleet > 0 {
		h.markDirty(b)
	}
}

func (h *Hub) markDirty(b *boardState) {
	if !b.dirty {
		b.dirty = true
		h.dirty = append(h.dirty, b)
	}
	signal(h.wake)
}

// Forget drops what is known of a board, when it has left the registry.
func (h *Hub) Forget(board string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.boards[board]
	if b == nil || len(b.watchers) > 0 {
		return
	}
	delete(h.boards, board)
	for c := range h.clients {
		c.needSnapshot = c.fleet
	}
	signal(h.wake)
}

// Alerts tells the browsers that an incident has changed. It never blocks.
func (h *Hub) Alerts() { signal(h.changed) }

// Latest returns the newest reading of each series of a board, in no order.
func (h *Hub) Latest(board string) []Latest {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.boards[board]
	if b == nil {
		return nil
	}
	out := make([]Latest, 0, len(b.latest))
	for _, v := range b.latest {
		if v.ok {
			out = append(out, Latest{Series: v.series, At: v.at, Value: v.value})
		}
	}
	return out
}

func (h *Hub) cell(board string) (cell, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.boards[board]
	if b == nil {
		return cell{}, false
	}
	return b.cell, true
}

// add registers a browser; false when there are too many or the hub is closed.
func (h *Hub) add(c *client) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.clients) >= maxClients || h.tooMany(c.customer()) {
		return false
	}
	h.clients[c] = struct{}{}
	h.running.Add(1)
	h.metrics.clients.Inc()
	if len(h.clients) == 1 {
		h.startPumps()
	}
	return true
}

func (h *Hub) startPumps() {
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	h.running.Go(func() { h.pump(ctx) })
	h.running.Go(func() { h.announce(ctx) })
}

func (h *Hub) remove(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.clients[c]; !ok {
		return
	}
	delete(h.clients, c)
	h.metrics.clients.Dec()
	h.setFleet(c, false)
	for name := range c.boards {
		h.setBoard(c, name, false)
	}
	if len(h.clients) == 0 {
		h.stop()
	}
	h.running.Done()
}

// close ends every websocket and waits for them and for the hub's goroutines.
func (h *Hub) close() {
	h.mu.Lock()
	h.closed = true
	for c := range h.clients {
		c.end(websocket.CloseGoingAway)
	}
	h.mu.Unlock()
	h.running.Wait()
}

// signal wakes a reader of c without ever waiting for it.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
