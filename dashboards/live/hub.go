package live

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// fleetInterval bounds fleet messages to 10 a second: more is not seen, only paid for.
	fleetInterval = 100 * time.Millisecond
	// timeInterval is below the 5 s after which the page says that it is behind.
	timeInterval = 2 * time.Second
	// maxClients bounds the memory that browsers can take.
	maxClients = 4096
	// maxCustomerClients is how many of them the logins of one customer may have.
	maxCustomerClients = 16
)

// Tenancy says whose a board is at a time (Unix ms) and since when without a break; "" where it is nobody's. It must be
// fast and must not call the hub.
type Tenancy func(board string, at int64) (customer string, since int64)

// Options configure a Hub. All funcs must be safe for concurrent use.
type Options struct {
	Version string // told to browsers
	Web     string // the path of the page's files, told as well: a page of others reloads itself
	// Incidents returns the message that follows a call of Alerts.
	Incidents func(context.Context) ([]byte, error)
	Tenancy   Tenancy // nil: no board is a customer's
	// Watch asks for a live lease of a board on behalf of a viewer; nil: there is no live mode.
	Watch func(board, viewer string, d time.Duration) error
	// CheckOrigin is false for a websocket that another site's page opens.
	CheckOrigin func(*http.Request) bool
	// Go runs the goroutine that writes to a browser: a panic in it is Go's to report and must not leave it.
	Go func(r *http.Request, write func())
	// Fault hears of a panic where messages for all browsers are made, from within the deferred function that has recovered
	// it; their connections end.
	Fault func(where string, v any)
	// Registerer takes the hub's metrics; nil: they are not registered.
	Registerer prometheus.Registerer
}

// Hub holds the latest reading of every series of every board and passes changes to
// browsers. Publish never blocks on a browser, and without one it only keeps the
// latest values. A Hub is safe for concurrent use.
type Hub struct {
	opts             Options
	browsers         prometheus.Gauge
	skipped          prometheus.Counter
	wake             chan struct{} // fleet changes are to be sent
	incidentsChanged chan struct{}
	running          sync.WaitGroup

	mu      sync.Mutex
	boards  map[string]*boardState
	dirty   []*boardState
	clients map[*client]struct{}
	fleet   int // clients that subscribe to the fleet
	stop    context.CancelFunc
	closed  bool
}

// New returns a hub, or the error of registering its metrics. It starts nothing: goroutines run while there are browsers,
// and end with Close.
func New(o Options) (*Hub, error) {
	h := &Hub{
		opts: o,
		browsers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "bramble_live_clients", Help: "Browsers connected to the live websocket.",
		}),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bramble_live_messages_skipped_total", Help: "Live messages that a slow browser missed.",
		}),
		wake:             make(chan struct{}, 1),
		incidentsChanged: make(chan struct{}, 1),
		boards:           map[string]*boardState{},
		clients:          map[*client]struct{}{},
	}
	if o.Registerer == nil {
		return h, nil
	}
	return h, errors.Join(o.Registerer.Register(h.browsers), o.Registerer.Register(h.skipped))
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

// Forget drops a board's state, when it has left the registry.
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

// Alerts sends the browsers the list of incidents, one of which has changed. It never blocks.
func (h *Hub) Alerts() { signal(h.incidentsChanged) }

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

// State is how a board fares now; the zero State where nothing of it has been read.
func (h *Hub) State(board string) State {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.boards[board]
	if b == nil {
		return State{}
	}
	return b.cell.state()
}

// Since is how a board fares by readings from a time (Unix ms) on, and the newest of each of its series, in no order. Whether it
// reports or was stopped is of now, however long it has been so.
func (h *Hub) Since(board string, from int64) (State, []Latest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.boards[board]
	if b == nil {
		return State{}, nil
	}
	return b.since(from)
}

// add registers a browser; false when there are too many or the hub is closed.
func (h *Hub) add(c *client) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.clients) >= maxClients || h.tooMany(c.viewer) {
		return false
	}
	h.clients[c] = struct{}{}
	h.running.Add(1)
	h.browsers.Inc()
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
	h.browsers.Dec()
	h.setFleet(c, false)
	for name := range c.boards {
		h.setBoard(c, name, false)
	}
	if len(h.clients) == 0 {
		h.stop()
	}
	h.running.Done()
}

// Close ends every websocket and waits for them and for the hub's goroutines. Publish may still be called.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.endAll(websocket.CloseGoingAway)
	h.running.Wait()
}

func (h *Hub) endAll(code int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.clients {
		c.end(code)
	}
}

// pump sends fleet changes and the time of day while there are browsers.
func (h *Hub) pump(ctx context.Context) {
	clock := time.NewTicker(timeInterval)
	defer clock.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	for {
		select {
		case <-ctx.Done():
			return
		case <-clock.C:
			h.guard("send the time to browsers", h.sendTime)
			continue
		case <-h.wake:
		}
		h.guard("send changes to browsers", func() {
			if again := h.flush(); again {
				signal(h.wake)
			}
		})
		pause.Reset(fleetInterval)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

// guard calls f for all browsers. A panic ends their connections, since changes that were collected may not have reached them:
// they connect again and begin with all there is.
func (h *Hub) guard(where string, f func()) {
	defer func() {
		if v := recover(); v != nil {
			h.opts.Fault(where, v)
			h.endAll(websocket.CloseInternalServerErr)
		}
	}()
	f()
}

func (h *Hub) sendTime() {
	msg := append([]byte(`{"type":"time","now":`), strconv.FormatInt(time.Now().UnixMilli(), 10)...)
	h.broadcast(prepare(append(msg, '}')))
}

// broadcast sends a message that tells nothing of any board.
func (h *Hub) broadcast(msg *websocket.PreparedMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.clients {
		c.offer(msg)
	}
}

// flush sends the changes since the last one. True when a browser could not take
// its snapshot yet, so that another flush is due.
func (h *Hub) flush() bool {
	changes, all := h.collect()
	var delta, full *websocket.PreparedMessage
	now := time.Now().UnixMilli()
	if len(changes) > 0 {
		delta = prepare(appendFleet(nil, now, false, changes))
	}
	if len(all) > 0 {
		full = prepare(appendFleet(nil, now, true, all))
	}
	return h.deliver(delta, full, all != nil)
}

// collect copies the changed cells, and all cells when a browser with room needs them.
func (h *Hub) collect() (changes, all []namedCell) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.dirty {
		changes = append(changes, namedCell{b.quoted, b.cell})
		b.dirty = false
	}
	clear(h.dirty)
	h.dirty = h.dirty[:0]
	for c := range h.clients {
		if c.needSnapshot && c.hasRoom() {
			return changes, h.allCells()
		}
	}
	return changes, nil
}

func (h *Hub) allCells() []namedCell {
	all := make([]namedCell, 0, len(h.boards))
	for _, b := range h.boards {
		all = append(all, namedCell{b.quoted, b.cell})
	}
	return all
}

func (h *Hub) deliver(delta, full *websocket.PreparedMessage, haveAll bool) (again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if haveAll && full == nil {
		full = prepare(appendFleet(nil, time.Now().UnixMilli(), true, nil))
	}
	for c := range h.clients {
		if !c.fleet && !c.skipped {
			continue
		}
		again = h.deliverTo(c, delta, full) || again
	}
	return again
}

// deliverTo keeps a browser in one of two states: up to date, or waiting for a snapshot.
func (h *Hub) deliverTo(c *client, delta, full *websocket.PreparedMessage) (again bool) {
	if c.skipped && c.offer(skippedMessage) {
		c.skipped = false
	}
	switch {
	case !c.fleet:
	case c.needSnapshot && full != nil:
		c.needSnapshot = !c.offer(full)
	case c.needSnapshot:
	case delta != nil && !c.offer(delta):
		h.skipped.Inc()
		c.needSnapshot = true
	}
	return c.skipped || (c.fleet && c.needSnapshot)
}

// announce sends the incident list after each change. It has its own goroutine
// because the list comes from a database, which live readings must not wait for.
func (h *Hub) announce(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.incidentsChanged:
		}
		h.guard("send incidents to browsers", func() {
			if msg, err := h.opts.Incidents(ctx); err == nil {
				h.sendOperators(prepare(msg))
			}
		})
	}
}

func (h *Hub) offerAll(to []*client, msg *websocket.PreparedMessage) {
	for _, c := range to {
		if !c.offer(msg) {
			h.skipped.Inc()
			c.skipped = true
			signal(h.wake)
		}
	}
}

// setFleet changes a fleet subscription; h.mu is held.
func (h *Hub) setFleet(c *client, on bool) {
	if c.fleet == on {
		return
	}
	c.fleet, c.needSnapshot = on, on
	if on {
		h.fleet++
		signal(h.wake)
		return
	}
	h.fleet--
}

// setBoard changes a board subscription; h.mu is held.
func (h *Hub) setBoard(c *client, name string, on bool) {
	b := h.boards[name]
	if _, have := c.boards[name]; have == on {
		return
	}
	if !on {
		delete(c.boards, name)
		b.watchers = slices.DeleteFunc(b.watchers, func(w *client) bool { return w == c })
		if len(b.watchers) == 0 && len(b.latest) == 0 {
			delete(h.boards, name) // it existed only because somebody waited for it
		}
		return
	}
	if b == nil {
		b = newBoardState(name)
		h.boards[b.name] = b
	}
	c.boards[name] = struct{}{}
	b.watchers = append(b.watchers, c)
}

// tooMany reports whether a customer has all the websockets that it may have. The caller holds h.mu.
func (h *Hub) tooMany(v Viewer) bool {
	if v.Customer == "" {
		return false
	}
	n := 0
	for c := range h.clients {
		if c.viewer.Customer == v.Customer {
			n++
		}
	}
	return n >= maxCustomerClients
}

// entitled are the watchers of a board who may see a reading of that time: between two readings a board may have gone to
// another customer. The caller holds h.mu.
func (h *Hub) entitled(b *boardState, at int64) []*client {
	customers := false
	for _, w := range b.watchers {
		customers = customers || w.viewer.Own
	}
	if !customers {
		return b.watchers
	}
	owner := h.owner(b.name, at)
	var out []*client
	for _, w := range b.watchers {
		if w.viewer.sees(owner) {
			out = append(out, w)
		}
	}
	return out
}

func (h *Hub) owner(board string, at int64) string {
	if h.opts.Tenancy == nil {
		return ""
	}
	customer, _ := h.opts.Tenancy(board, at)
	return customer
}

// sendOperators sends a message to all but customers: it may tell of any board.
func (h *Hub) sendOperators(msg *websocket.PreparedMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.clients {
		if !c.viewer.Own {
			c.offer(msg)
		}
	}
}

// signal wakes a reader of c without ever waiting for it.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

var skippedMessage = prepare([]byte(`{"type":"skipped"}`))

// prepare frames a message once for all the browsers that get it.
func prepare(b []byte) *websocket.PreparedMessage {
	m, err := websocket.NewPreparedMessage(websocket.TextMessage, b)
	if err != nil {
		panic(err) // a text message always frames
	}
	return m
}
