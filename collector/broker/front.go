package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// How fast a client may send, in bytes a second and bytes at once, TLS
// included. nats-server has no such limit: one board in a loop of 4 kB messages
// makes the publishes of the others time out.
const (
	// strangerRate is for connections that have not logged in, and for enrolments.
	strangerRate, strangerBurst = 4 << 10, 32 << 10
	// boardRate is some thousand times what a board sends. The burst takes in a
	// full spool, a day's readings in 1 MiB, at once.
	boardRate, boardBurst = 64 << 10, 2 << 20
)

const (
	acceptPause  = 50 * time.Millisecond // after an accept that failed, as for want of file descriptors
	relayBuffer  = 16 << 10
	portsPerHost = 20_000 // Linux has 28,000 ephemeral ports for each pair of addresses
)

// front accepts the boards' connections and relays them to the message server,
// which listens on loopback, no faster than each may send. A board has one
// allowance across all of its connections, so that reconnecting gains nothing.
type front struct {
	listener net.Listener
	target   string // host:port of the message server
	log      *slog.Logger
	work     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	relays map[string]*relay  // by the client's address
	boards map[string]*bucket // by board
}

// listenFront takes the address. Its errors say what to do.
func listenFront(addr string, log *slog.Logger) (*front, error) {
	const next = "choose another address with --nats ADDR, such as --nats 127.0.0.1:4222"
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listen for boards on %q: %w: %s", addr, err, next)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return nil, fmt.Errorf("listen for boards on %q: port %q is no number from 0 to 65535: %s", addr, port, next)
	}
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen for boards: %w: stop the program that has this port, or %s", err, next)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for boards: %w: %s", err, next)
	}
	return &front{listener: l, log: log, relays: map[string]*relay{}, boards: map[string]*bucket{}}, nil
}

// serve relays to target until close.
func (f *front) serve(target string) {
	f.target = target
	f.work.Go(func() {
		for {
			c, err := f.listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				f.log.Warn("accept board's connection", "error", err)
				time.Sleep(acceptPause)
				continue
			}
			f.work.Go(func() { f.relay(c) })
		}
	})
}

func (f *front) relay(client net.Conn) {
	defer client.Close()
	r := &relay{client: client, done: make(chan struct{})}
	r.budget.Store(newBucket(strangerRate, strangerBurst))
	address := client.RemoteAddr().String()
	n, ok := f.add(address, r)
	if !ok {
		return
	}
	defer f.remove(address)
	if err := r.dial(f.target, n); err != nil {
		f.log.Warn("relay board's connection", "error", err)
		return
	}
	r.run()
}

// add notes a relay and returns how many there are.
func (f *front) add(address string, r *relay) (n int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.relays[address] = r
	return len(f.relays), !f.closed
}

func (f *front) remove(address string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.relays, address)
}

// admit gives the connection from an address the board's allowance.
func (f *front) admit(address, board string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.boards[board]
	if b == nil {
		b = newBucket(boardRate, boardBurst)
		f.boards[board] = b
	}
	if r := f.relays[address]; r != nil {
		r.budget.Store(b)
	}
}

// close ends all connections and waits for their relays.
func (f *front) close() error {
	err := f.listener.Close()
	f.mu.Lock()
	f.closed = true
	for _, r := range f.relays {
		r.client.Close()
	}
	f.mu.Unlock()
	f.work.Wait()
	return err
}

// relay is one client's connection and the one to the server that stands for it.
type relay struct {
	client, server net.Conn
	budget         atomic.Pointer[bucket]
	done           chan struct{} // closed when either side has ended
}

// dial connects to the server and says for whom (PROXY protocol, version 1).
// With very many relays it uses further loopback addresses.
func (r *relay) dial(target string, n int) (err error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	if n > portsPerHost {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+n/portsPerHost))}
	}
	if r.server, err = d.Dial("tcp", target); err != nil {
		return err
	}
	from, to := r.client.RemoteAddr().(*net.TCPAddr), r.client.LocalAddr().(*net.TCPAddr)
	family := "TCP6"
	if from.IP.To4() != nil {
		family = "TCP4"
	}
	if _, err = fmt.Fprintf(r.server, "PROXY %s %s %s %d %d\r\n", family, from.IP, to.IP, from.Port, to.Port); err != nil {
		return errors.Join(err, r.server.Close())
	}
	return nil
}

// run copies both ways until one side ends.
func (r *relay) run() {
	var down sync.WaitGroup
	down.Go(func() {
		r.copy(r.client, r.server, nil)
		close(r.done)
		r.client.Close()
	})
	r.copy(r.server, r.client, r.wait)
	r.server.Close()
	down.Wait()
}

// copy moves bytes until an end or error of either side; that is how relays
// end, so nobody needs to hear of it.
func (r *relay) copy(dst, src net.Conn, wait func(n int) bool) {
	for {
		buffer, n, err := readWhenReady(src)
		if n > 0 && wait != nil && !wait(n) {
			err = net.ErrClosed
		}
		if n > 0 && err == nil {
			// The server gives up on a client that does not read after as long.
			_ = dst.SetWriteDeadline(time.Now().Add(2 * writeTimeout)) // it errs as the write then does
			_, err = dst.Write((*buffer)[:n])
		}
		if buffer != nil {
			buffers.Put(buffer)
		}
		if err != nil || n == 0 {
			return
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
	raw, err := c.(syscall.Conn).SyscallConn()
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
