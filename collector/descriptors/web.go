package descriptors

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Web is a listener for browsers that bounds how many connections they have. In
// place of the connection that is one too many the oldest one ends that is idle
// or has sent no request yet, else the oldest that has not become a websocket.
type Web struct {
	net.Listener
	budget *Budget
	ended  atomic.Uint64

	mu   sync.Mutex
	open map[*webConn]struct{}
}

// Web bounds a listener. The server that accepts from it calls [Web.State].
func (b *Budget) Web(l net.Listener) *Web {
	return &Web{Listener: l, budget: b, open: map[*webConn]struct{}{}}
}

type webConn struct {
	net.Conn
	web   *Web
	since time.Time
	once  sync.Once
	state http.ConnState // guarded by web.mu
}

// Accept implements net.Listener.
func (w *Web) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	wc := &webConn{Conn: c, web: w, since: time.Now()}
	if worst := w.add(wc); worst != nil {
		w.ended.Add(1)
		worst.Close()
	}
	return wc, nil
}

// add notes a connection and returns the one that has to end for it, if any;
// that may be the new one itself.
func (w *Web) add(c *webConn) (worst *webConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[c] = struct{}{}
	w.budget.webOpen.Add(1)
	if len(w.open) <= w.budget.web {
		return nil
	}
	for o := range w.open {
		if o != c && o.state != http.StateHijacked && (worst == nil || o.before(worst)) {
			worst = o
		}
	}
	if worst == nil {
		return c
	}
	return worst
}

// before reports whether c rather than o is to end. The caller holds web.mu.
func (c *webConn) before(o *webConn) bool {
	if busy, other := c.state == http.StateActive, o.state == http.StateActive; busy != other {
		return other
	}
	return c.since.Before(o.since)
}

// Close implements net.Conn.
func (c *webConn) Close() error {
	c.once.Do(func() {
		c.web.mu.Lock()
		defer c.web.mu.Unlock()
		delete(c.web.open, c)
		c.web.budget.webOpen.Add(-1)
	})
	return c.Conn.Close()
}

// State is to be the server's ConnState hook.
func (w *Web) State(c net.Conn, s http.ConnState) {
	if over, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = over.NetConn()
	}
	if wc, ok := c.(*webConn); ok {
		w.mu.Lock()
		defer w.mu.Unlock()
		wc.state = s
	}
}

// Ended is how many connections had to end for another one.
func (w *Web) Ended() uint64 { return w.ended.Load() }
