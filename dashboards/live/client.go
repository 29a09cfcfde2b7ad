package live

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/gorilla/websocket"
)

const (
	queueLength  = 256 // messages a browser may be behind before it misses some
	writeWait    = 10 * time.Second
	pongWait     = 60 * time.Second
	pingInterval = 25 * time.Second
	readLimit    = 4 << 10
	maxWatched   = 8 // boards a browser may subscribe to at a time
	leaseTime    = 30 * time.Second
)

// boardName is the form of boards' names.
var boardName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// ValidBoard reports whether a text has the form of a board's name.
func ValidBoard(name string) bool { return boardName.MatchString(name) }

// Viewer is who looks at a browser.
type Viewer struct {
	Name, Role string // told to the page
	Own        bool   // sees boards of Customer alone; none where that is ""
	Customer   string
	Still      func() bool // reports whether the credential is still in force
}

// sees reports whether the viewer may see readings of a board of a customer.
func (v Viewer) sees(customer string) bool {
	return !v.Own || v.Customer != "" && v.Customer == customer
}

// client is one websocket. Its reader is the handler's goroutine; its writer is another.
type client struct {
	hub    *Hub
	conn   *websocket.Conn
	viewer Viewer
	send   chan *websocket.PreparedMessage
	done   chan struct{} // closed when the reader ends
	closes chan int      // a close code for the writer

	// Guarded by hub.mu.
	fleet, needSnapshot, skipped bool
	boards                       map[string]struct{}
}

// Serve upgrades a request to a websocket and serves it until either side ends it.
func (h *Hub) Serve(w http.ResponseWriter, r *http.Request, v Viewer) {
	upgrader := websocket.Upgrader{ReadBufferSize: 1 << 10, WriteBufferSize: 4 << 10, HandshakeTimeout: writeWait, CheckOrigin: h.opts.CheckOrigin}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the upgrader has answered
	}
	c := &client{
		hub: h, conn: conn, viewer: v,
		send:   make(chan *websocket.PreparedMessage, queueLength),
		done:   make(chan struct{}),
		closes: make(chan int, 1),
		boards: map[string]struct{}{},
	}
	if !h.add(c) {
		c.control(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseTryAgainLater, ""))
		_ = conn.Close()
		return
	}
	written := make(chan struct{})
	go func() { defer close(written); h.opts.Go(r, c.write) }()
	defer func() { close(c.done); <-written; h.remove(c) }()
	c.reply(map[string]any{
		"type": "hello", "now": time.Now().UnixMilli(), "version": h.opts.Version, "user": v.Name, "role": v.Role, "web": h.opts.Web,
	})
	c.read()
}

func (c *client) hasRoom() bool { return len(c.send) < cap(c.send) }

// offer queues a message, or returns false when the browser is too far behind.
func (c *client) offer(m *websocket.PreparedMessage) bool {
	select {
	case c.send <- m:
		return true
	default:
		return false
	}
}

// end asks the writer to close the connection.
func (c *client) end(code int) {
	select {
	case c.closes <- code:
	default:
	}
}

func (c *client) reply(v any) {
	b, err := json.Marshal(v)
	if err != nil || !c.offer(prepare(b)) {
		c.end(websocket.ClosePolicyViolation)
	}
}

// read handles requests until the connection ends.
func (c *client) read() {
	c.conn.SetReadLimit(readLimit)
	c.extend()
	c.conn.SetPongHandler(func(string) error { c.extend(); return nil })
	for {
		kind, data, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		c.extend()
		if kind != websocket.TextMessage {
			c.end(websocket.CloseUnsupportedData)
			return
		}
		if err := c.handle(data); err != nil {
			c.reply(map[string]string{"type": "error", "error": err.Error()})
		}
	}
}

// extend moves the read deadline. An error shows at the next read.
func (c *client) extend() { _ = c.conn.SetReadDeadline(time.Now().Add(pongWait)) }

type request struct {
	Type  string `json:"type"`
	Fleet bool   `json:"fleet"`
	Board string `json:"board"`
}

func parseRequest(data []byte) (request, error) {
	var r request
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("decode request: %w", err)
	}
	if r.Board != "" && !ValidBoard(r.Board) {
		return r, fmt.Errorf("board name %q is not valid: use a-z, 0-9 and -", r.Board)
	}
	return r, nil
}

func (c *client) handle(data []byte) error {
	r, err := parseRequest(data)
	if err != nil {
		return err
	}
	switch r.Type {
	case "subscribe", "unsubscribe":
		return c.subscribe(r, r.Type == "subscribe")
	case "watch":
		return c.lease(r.Board)
	}
	return fmt.Errorf("request type %q is not known", r.Type)
}

func (c *client) subscribe(r request, on bool) error {
	if err := c.mayAsk(r, on); err != nil {
		return err
	}
	if err := c.setSubscription(r, on); err != nil {
		return err
	}
	if on && r.Board != "" {
		c.reply(map[string]string{"type": "subscribed", "board": r.Board})
	}
	return nil
}

// mayAsk refuses boards that a customer may not see. A board of somebody else's and one that is not there get the same answer.
func (c *client) mayAsk(r request, on bool) error {
	if !c.viewer.Own || !on {
		return nil
	}
	if r.Fleet {
		return errors.New("subscribe fleet: role customer sees single boards")
	}
	if r.Board != "" && !c.viewer.sees(c.hub.owner(r.Board, time.Now().UnixMilli())) {
		return fmt.Errorf("board %s: no board of yours has this name", r.Board)
	}
	return nil
}

func (c *client) setSubscription(r request, on bool) error {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	if r.Fleet {
		c.hub.setFleet(c, on)
	}
	if r.Board == "" {
		return nil
	}
	if on && len(c.boards) >= maxWatched {
		return fmt.Errorf("subscribe board %s: at most %d boards at a time", r.Board, maxWatched)
	}
	c.hub.setBoard(c, r.Board, on)
	return nil
}

func (c *client) lease(board string) error {
	if board == "" || c.hub.opts.Watch == nil {
		return fmt.Errorf("watch board %q: live mode is not available", board)
	}
	if err := c.mayAsk(request{Board: board}, true); err != nil {
		return err
	}
	until := time.Now().Add(leaseTime)
	if err := c.hub.opts.Watch(board, c.viewer.Name, leaseTime); err != nil {
		return fmt.Errorf("watch board %s: %w", board, err)
	}
	c.reply(map[string]any{"type": "watching", "board": board, "until": until.UnixMilli()})
	return nil
}

// write sends queued messages and pings until the reader ends.
func (c *client) write() {
	ping := time.NewTicker(pingInterval)
	defer ping.Stop()
	defer c.conn.Close() // ends the reader too
	for {
		select {
		case <-c.done:
			return
		case code := <-c.closes:
			c.control(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""))
			return
		case m := <-c.send:
			if !c.writeOne(m) {
				return
			}
		case <-ping.C:
			if !c.viewer.Still() {
				c.control(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.ClosePolicyViolation, "logged out"))
				return
			}
			if !c.control(websocket.PingMessage, nil) {
				return
			}
		}
	}
}

func (c *client) writeOne(m *websocket.PreparedMessage) bool {
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeWait)); err != nil {
		return false
	}
	return c.conn.WritePreparedMessage(m) == nil
}

func (c *client) control(kind int, data []byte) bool {
	return c.conn.WriteControl(kind, data, time.Now().Add(writeWait)) == nil
}
