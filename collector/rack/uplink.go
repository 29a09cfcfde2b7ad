package rack

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

var errUnplugged = errors.New("switch is without power")

// dialTime bounds one attempt to reach the collector.
const dialTime = 5 * time.Second

// uplink is the way of a switch's boards to the collector. While it is down
// no connection comes about, and those that were there end.
type uplink struct {
	name string

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]struct{}
}

func newUplink(name string) *uplink {
	return &uplink{name: name, conns: make(map[net.Conn]struct{})}
}

// Dial connects through the switch.
func (u *uplink) Dial(network, address string) (net.Conn, error) {
	if u.isDown() {
		return nil, u.refusal(network, address)
	}
	conn, err := net.DialTimeout(network, address, dialTime)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.down {
		return nil, errors.Join(u.refusal(network, address), conn.Close())
	}
	u.conns[conn] = struct{}{}
	return &uplinkConn{Conn: conn, uplink: u}, nil
}

func (u *uplink) refusal(network, address string) error {
	return fmt.Errorf("dial %s %s through %s: %w", network, address, u.name, errUnplugged)
}

func (u *uplink) isDown() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.down
}

// unplug takes the switch away.
func (u *uplink) unplug() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.down = true
	for c := range u.conns {
		c.Close() // it is torn away, and nobody takes the error
	}
	clear(u.conns)
}

// plug brings the switch back.
func (u *uplink) plug() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.down = false
}

type uplinkConn struct {
	net.Conn
	uplink *uplink
}

func (c *uplinkConn) Close() error {
	c.uplink.mu.Lock()
	delete(c.uplink.conns, c.Conn)
	c.uplink.mu.Unlock()
	return c.Conn.Close()
}
