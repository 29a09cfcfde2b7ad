package broker

import (
	"container/list"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/time/rate"
)

// How fast a client may send, in bytes a second and bytes at once, TLS
// included. nats-server has no such limit: one board in a loop of 4 kB messages
// makes the publishes of the others time out.
const (
	// strangerRate is for connections that have not logged in, and for enrolments.
	strangerRate, strangerBurst = 4 << 10, 32 << 10
	// boardRate is some thousand times a board's usual rate. The burst takes in a full spool, a
	// day's readings in 1 MiB, at once.
	boardRate, boardBurst = 64 << 10, 2 << 20
)

const (
	acceptPause  = 50 * time.Millisecond // after an accept that failed, as for lack of file descriptors
	relayBuffer  = 16 << 10
	portsPerHost = 20_000 // Linux has 28,000 ephemeral ports for each pair of addresses
)

// strangerTime is how long a connection may stay without being a board's. The
// server ends one that does not log in, and an enrolment, before that; it
// would answer plain HTTP requests for ever.
const strangerTime = time.Minute

// front accepts the boards' connections and relays them to the message server,
// which listens on loopback, no faster than each may send. A board has one
// allowance across all of its connections and all doors, so that reconnecting
// gains nothing.
type front struct {
	doors    []*door
	patience time.Duration // with strangers
	panics   *panics
	count    *metrics
	log      *slog.Logger
	work     sync.WaitGroup

	unaccepted rate.Sometimes // limits the lines of accepts that fail

	mu     sync.Mutex
	closed bool
	places places
	relays map[string]*relay  // by the client's address as the server sees it (addressKey)
	boards map[string]*bucket // by board
}

// door is one address that boards connect to.
type door struct {
	listener net.Listener
	target   string // host:port of the message server behind it
	// proxied is set where the server learns the client's address from a PROXY header. Its
	// websocket listener takes none: it sees the front's own address, which identifies the
	// connection as well.
	proxied bool
}

// listenFront takes the addresses; websocket may be empty. Its errors have the next step.
func listenFront(addr, websocket string, count *metrics, log *slog.Logger) (*front, error) {
	f := &front{patience: strangerTime, panics: newPanics(count, log), count: count, log: log, unaccepted: rate.Sometimes{Interval: time.Minute},
		places: places{limit: maxClients, strangers: list.New()}, relays: map[string]*relay{}, boards: map[string]*bucket{}}
	l, err := listen(addr, "choose another address with --nats ADDR, such as --nats 127.0.0.1:4222")
	if err != nil {
		return nil, err
	}
	f.doors = append(f.doors, &door{listener: l, proxied: true})
	if websocket == "" {
		return f, nil
	}
	l, err = listen(websocket, "choose another address with nats_websocket in the config file, such as \"[::]:443\"")
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	f.doors = append(f.doors, &door{listener: l})
	return f, nil
}

func listen(addr, next string) (net.Listener, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listen for boards on %q: %w: %s", addr, err, next)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return nil, fmt.Errorf("listen for boards on %q: port %q is no number from 0 to 65535: %s", addr, port, next)
	}
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen for boards: %w: stop the program that has this port, or %s", err, next)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("listen for boards: %w: a port below 1024 needs CAP_NET_BIND_SERVICE (AmbientCapabilities= in a systemd unit); grant it, or %s", err, next)
	case err != nil:
		return nil, fmt.Errorf("listen for boards: %w: %s", err, next)
	}
	return l, nil
}

// serve relays each door's connections to its target until close.
func (f *front) serve(targets ...string) {
	for i, d := range f.doors {
		d.target = targets[i]
		f.work.Go(func() { f.open(d) })
	}
}

func (f *front) open(d *door) {
	for f.accept(d) {
	}
}

// accept takes one connection, and reports whether the door is still open.
func (f *front) accept(d *door) (open bool) {
	open = true // after a panic too
	defer f.panics.caught("accept a connection")
	c, err := d.listener.Accept()
	switch {
	case errors.Is(err, net.ErrClosed):
		return false
	case err != nil:
		f.acceptFailed(err)
	case !f.take():
		c.Close()
	default:
		f.work.Go(func() { f.relay(d, c) })
	}
	return true
}

func (f *front) relay(d *door, client net.Conn) {
	defer f.panics.caught("relay a connection")
	r := &relay{client: client, done: make(chan struct{}), ended: make(chan struct{})}
	defer func() { client.Close(); f.leave(); close(r.ended) }()
	server, seen, err := d.dial(client, f.relaying())
	if err != nil {
		f.unaccepted.Do(func() { f.log.Warn("relay board's connection", "err", err) })
		return
	}
	defer server.Close()
	r.server = server
	r.budget.Store(newBucket(strangerRate, strangerBurst))
	if !f.add(seen, r) {
		return
	}
	defer f.remove(seen, r)
	r.run(f.panics)
}

func (f *front) relaying() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.relays)
}

// add notes a relay, unless the front is closed.
func (f *front) add(seen string, r *relay) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.relays[seen] = r
	r.place = f.places.strangers.PushBack(r)
	r.leave = time.AfterFunc(f.patience, func() { r.client.Close() })
	return !f.closed
}

func (f *front) remove(seen string, r *relay) {
	r.leave.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.relays[seen] == r { // the address may be another connection's by now
		delete(f.relays, seen)
	}
	if r.board {
		f.places.boards--
	} else {
		f.places.strangers.Remove(r.place)
	}
}

// admit gives the connection from an address, as the server sees it, the
// board's allowance and a board's place. cut says that an older connection of
// the board ends for it. It returns the client's own address, and an error where
// there is no place.
func (f *front) admit(address net.Addr, board string, cut bool) (from string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.boards[board]
	if b == nil {
		b = newBucket(boardRate, boardBurst)
		f.boards[board] = b
	}
	r := f.relays[addressKey(address.Network(), address.String())]
	if r == nil {
		return address.String(), nil // it has gone meanwhile
	}
	from = r.client.RemoteAddr().String()
	if !f.settle(r, cut) {
		r.client.Close() // rather than an answer that its key is refused
		return from, errFull
	}
	r.budget.Store(b)
	r.leave.Stop()
	return from, nil
}

// addressKey names a connection. nats-server says tcp4 or tcp6 for a client of which a PROXY header
// named, and tcp for one that it sees itself: a board on this machine may have the port that the
// front uses towards another listener.
func addressKey(network, address string) string { return network + " " + address }

// close ends all connections and waits for their relays.
func (f *front) close() error {
	var errs []error
	for _, d := range f.doors {
		errs = append(errs, d.listener.Close())
	}
	f.mu.Lock()
	f.closed = true
	for _, r := range f.relays {
		r.client.Close()
	}
	f.mu.Unlock()
	f.work.Wait()
	return errors.Join(errs...)
}

// dial connects to the server for a client and, where it can, says for whom
// (PROXY protocol, version 1). It also returns the addressKey under which the
// server sees the connection. With very many relays it uses further loopback
// addresses.
func (d *door) dial(client net.Conn, relays int) (_ net.Conn, seen string, err error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	if relays >= portsPerHost {
		dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+relays/portsPerHost))}
	}
	server, err := dialer.Dial("tcp", d.target)
	if err != nil {
		return nil, "", err
	}
	if !d.proxied {
		local := server.LocalAddr()
		return server, addressKey(local.Network(), local.String()), nil
	}
	from, known := client.RemoteAddr().(*net.TCPAddr)
	to, own := client.LocalAddr().(*net.TCPAddr)
	if !known || !own {
		return nil, "", errors.Join(errors.New("the connection has no address any more"), server.Close())
	}
	family := "tcp6"
	if from.IP.To4() != nil {
		family = "tcp4"
	}
	// Without the zone of a link-local address, which the header cannot carry.
	seen = addressKey(family, net.JoinHostPort(from.IP.String(), strconv.Itoa(from.Port)))
	if _, err = fmt.Fprintf(server, "PROXY %s %s %s %d %d\r\n", strings.ToUpper(family), from.IP, to.IP, from.Port, to.Port); err != nil {
		return nil, "", errors.Join(err, server.Close())
	}
	return server, seen, nil
}

// relay is one client's connection and its counterpart to the server.
type relay struct {
	client, server net.Conn
	budget         atomic.Pointer[bucket]
	leave          *time.Timer   // ends a stranger; stopped for a board
	done           chan struct{} // closed when either side has ended
	ended          chan struct{} // closed when both have, and their descriptors are free

	// Guarded by the front's mutex.
	board bool          // it has logged in as one
	place *list.Element // among the strangers
}

// run copies both ways until one side ends. A server that hangs up has said why:
// that still reaches a client which goes on writing.
func (r *relay) run(faults *panics) {
	var down sync.WaitGroup
	down.Go(func() {
		defer r.client.Close()
		defer close(r.done)
		defer faults.caught("relay to a client")
		r.copy(r.client, r.server, nil)
	})
	if r.copy(r.server, r.client, r.wait) {
		_ = r.server.SetReadDeadline(time.Now().Add(writeTimeout)) // it errs where the server is gone, as wanted
	} else {
		r.server.Close()
	}
	down.Wait()
}

// copy moves bytes until an end or error of either side; that is how relays end, so nobody needs to
// know of it. It reports whether it was dst that ended.
func (r *relay) copy(dst, src net.Conn, wait func(n int) bool) bool {
	for {
		buffer, n, err := readWhenReady(src)
		if n > 0 && wait != nil && !wait(n) {
			err = net.ErrClosed
		}
		var failed error
		if n > 0 && err == nil {
			// The server gives up on a client that does not read after as long.
			_ = dst.SetWriteDeadline(time.Now().Add(2 * writeTimeout)) // it errs as the write then does
			_, failed = dst.Write((*buffer)[:n])
		}
		if buffer != nil {
			buffers.Put(buffer)
		}
		if err != nil || failed != nil || n == 0 {
			return failed != nil
		}
	}
}

// wait sleeps until the client may have sent n more bytes. It reports false
// when the relay ends before.
func (r *relay) wait(n int) bool {
	d := r.budget.Load().take(n)
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.done:
		return false
	}
}

var buffers = sync.Pool{New: func() any { b := make([]byte, relayBuffer); return &b }}

// readWhenReady reads into a buffer that it takes only when there is something
// to read: thousands of idle connections share a few. The caller gives the
// buffer, if any, back. n is 0 at the end.
func readWhenReady(c net.Conn) (buffer *[]byte, n int, err error) {
	socket, ok := c.(syscall.Conn)
	if !ok {
		return nil, 0, fmt.Errorf("a %T is no socket", c)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, 0, err
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		buffer = buffers.Get().(*[]byte)
		for {
			n, failed = syscall.Read(int(fd), *buffer)
			if failed != syscall.EINTR {
				break
			}
		}
		if failed == syscall.EAGAIN {
			buffers.Put(buffer)
			buffer = nil
			return false
		}
		return true
	})
	return buffer, max(n, 0), errors.Join(err, failed)
}
