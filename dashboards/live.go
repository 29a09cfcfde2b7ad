package dashboards

import (
	"net/http"

	"github.com/gorilla/websocket"
	"time"
)

// live upgrades to a websocket and serves it until either side ends it.
func (s *Server) live(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{ReadBufferSize: 1 << 10, WriteBufferSize: 4 << 10, HandshakeTimeout: writeWait, CheckOrigin: sameOrigin}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return // the upgrader has answered
	}
	c := s.newClient(conn, r)
	if !s.hub.add(c) {
		deadline := time.Now().Add(writeWait)
		_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseTryAgainLater, ""), deadline)
		_ = conn.Close()
		return
	}
	written := make(chan struct{})
	go func() { defer close(written); s.write(c, r) }()
	defer func() { close(c.done); <-written; s.hub.remove(c) }()
	c.reply(map[string]any{
		"type": "hello", "now": time.Now().UnixMilli(), "version": s.opts.Version, "user": c.user.Name, "role": c.user.Role,
		"web": s.web.prefix,
	})
	c.read()
}

// write serves the browser's other direction, outside of net/http's care.
func (s *Server) write(c *client, r *http.Request) {
	defer func() { _ = recover() }() // caught has told
	defer s.caught(r)
	c.write()
}

func (s *Server) newClient(conn *websocket.Conn, r *http.Request) *client {
	return &client{
		hub: s.hub, conn: conn, user: userOf(r), watch: s.opts.Watch,
		still:  func() bool { _, err := s.authenticate(r); return err == nil },
		send:   make(chan *websocket.PreparedMessage, queueLength),
		done:   make(chan struct{}),
		closes: make(chan int, 1),
		boards: map[string]struct{}{},
	}
}
