package dashboards

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
)

// pump sends fleet changes and the time of day while there are browsers.
func (h *Hub) pump(ctx context.Context) {
	beat := time.NewTicker(beatInterval)
	defer beat.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			h.beat()
			continue
		case <-h.wake:
		}
		if again := h.flush(); again {
			signal(h.wake)
		}
		pause.Reset(fleetInterval)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

func (h *Hub) beat() {
	msg := append([]byte(`{"type":"time","now":`), strconv.FormatInt(time.Now().UnixMilli(), 10)...)
	h.broadcast(prepare(append(msg, '}')))
}

// broadcast sends what tells nothing of any board.
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
		h.metrics.skipped.Inc()
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
		case <-h.changed:
		}
		if msg, err := h.incidents(ctx); err == nil {
			h.tell(prepare(msg))
		}
	}
}

func (h *Hub) offerAll(to []*client, msg *websocket.PreparedMessage) {
	for _, c := range to {
		if !c.offer(msg) {
			h.metrics.skipped.Inc()
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
