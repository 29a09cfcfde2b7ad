package broker

import (
	"container/list"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/time/rate"
)

// How fast a client may send, in bytes a second and bytes at once, TLS and frames included. One board in a loop
// of 4 kB messages would make the publishes of the others time out.
const (
	// strangerRate is for connections that have not logged in, and for enrolments.
	strangerRate, strangerBurst = 4 << 10, 32 << 10
	// boardRate is some thousand times a board's usual rate. The burst takes in a full spool, a
	// day's readings in 1 MiB, at once.
	boardRate, boardBurst = 64 << 10, 2 << 20
)

// acceptPause follows an accept that failed, as for lack of file descriptors.
const acceptPause = 50 * time.Millisecond

// front owns the boards' connections: it accepts them, bounds their number, knows which one
// subscribes to a subject, and hands published messages on. A board has one allowance across all of
// its connections and both doors, so that reconnecting gains nothing.
//
// Lock order: front.mu, then client.mu. A subscriber's lock is taken by neither.
type front struct {
	doors   []*door
	tls     *tls.Config
	publish func(subject string, payload []byte) error
	gate    *gate
	login   time.Duration // how long a client may take to log in
	panics  *panics
	count   *metrics
	log     *limitedLog
	work    sync.WaitGroup

	unaccepted rate.Sometimes // limits the lines of accepts that fail

	mu      sync.Mutex
	closed  bool
	places  places
	clients map[*client]struct{}
	boards  map[string]*rate.Limiter // by board

	listening   sync.RWMutex
	subscribers map[string][]*client // by subject
}

// door is one address that boards connect to.
type door struct {
	listener net.Listener
	serve    func(*door) // until the listener closes
	metered  bool        // its clients' reads take their allowance
}

// listenFront takes the addresses; websocket may be empty. Its errors have the next step.
func listenFront(addr, websocket string, count *metrics, log *slog.Logger) (*front, error) {
	f := &front{login: loginTime, panics: newPanics(count, log), count: count, log: newLimitedLog(log, count),
		unaccepted: rate.Sometimes{Interval: time.Minute}, places: places{limit: maxClients, strangers: list.New()},
		clients: map[*client]struct{}{}, boards: map[string]*rate.Limiter{}, subscribers: map[string][]*client{}}
	l, err := listen(addr, "choose another address with --nats ADDR, such as --nats 127.0.0.1:4222")
	if err != nil {
		return nil, err
	}
	f.doors = append(f.doors, &door{l, f.serveNATS, false})
	if websocket == "" {
		return f, nil
	}
	l, err = listen(websocket, "choose another address with nats_websocket in the config file, such as \"[::]:443\"")
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	f.doors = append(f.doors, &door{l, f.serveWebSocket, true})
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

// open serves all doors until close.
func (f *front) open() {
	for _, d := range f.doors {
		f.work.Go(func() { d.serve(d) })
	}
}

// serveNATS accepts clients that begin with NATS's own greeting.
func (f *front) serveNATS(d *door) {
	for {
		c, err := f.accept(d)
		if err != nil {
			return
		}
		f.work.Go(c.serveNATS)
	}
}

// accept waits for the next connection that gets a place. Its only error is that of a closed door.
func (f *front) accept(d *door) (*client, error) {
	for {
		c, err := d.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil, err
		case err != nil:
			f.unaccepted.Do(func() { f.log.log.Warn("accept a board's connection", "err", err) })
			time.Sleep(acceptPause)
		case !f.take():
			c.Close()
		default:
			if c := f.add(c.(*net.TCPConn), d.metered); c != nil {
				return c, nil
			}
		}
	}
}

// add makes a client of a connection that has a place, unless the front is closed.
func (f *front) add(conn *net.TCPConn, metered bool) *client {
	c := &client{TCPConn: conn, front: f, metered: metered, from: conn.RemoteAddr().String(), budget: rate.NewLimiter(strangerRate, strangerBurst), done: make(chan struct{})}
	f.mu.Lock()
	f.clients[c] = struct{}{}
	c.place = f.places.strangers.PushBack(c)
	closed, login := f.closed, f.login
	f.mu.Unlock()
	if closed {
		c.Close()
		return nil
	}
	c.mu.Lock()
	c.alarm = time.AfterFunc(login, c.alarmed)
	c.mu.Unlock()
	return c
}

// remove gives the client's place back.
func (f *front) remove(c *client) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.clients, c)
	f.places.taken--
	if c.board {
		f.places.boards--
	} else {
		f.places.strangers.Remove(c.place)
	}
}

// admit gives the client a board's allowance and place. cut says that an older connection of the
// board ends for it. It reports false where there is no place.
func (f *front) admit(c *client, board string, cut bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, open := f.clients[c]; !open {
		return true // it has gone meanwhile
	}
	if !f.settle(c, cut) {
		return false
	}
	b := f.boards[board]
	if b == nil {
		b = rate.NewLimiter(boardRate, boardBurst)
		f.boards[board] = b
	}
	c.budget = b
	return true
}

// connections is the number of open connections.
func (f *front) connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.clients)
}

// subscribe has the client get the messages on a subject.
func (f *front) subscribe(c *client, subject string) {
	f.listening.Lock()
	defer f.listening.Unlock()
	if all := f.subscribers[subject]; !slices.Contains(all, c) {
		f.subscribers[subject] = append(all, c)
	}
}

// unsubscribe ends that.
func (f *front) unsubscribe(c *client, subject string) {
	f.listening.Lock()
	defer f.listening.Unlock()
	left := slices.DeleteFunc(slices.Clone(f.subscribers[subject]), func(other *client) bool { return other == c })
	if len(left) == 0 {
		delete(f.subscribers, subject)
		return
	}
	f.subscribers[subject] = left
}

// deliver queues a message for those who subscribe to its subject. It never waits for a client.
func (f *front) deliver(subject string, payload []byte) {
	defer f.panics.caught("deliver a message")
	f.listening.RLock()
	all := f.subscribers[subject] // replaced, never changed in place but for appends
	f.listening.RUnlock()
	for _, c := range all {
		c.deliver(subject, payload)
	}
}

// close ends all connections and waits for their goroutines.
func (f *front) close() error {
	var errs []error
	for _, d := range f.doors {
		errs = append(errs, d.listener.Close())
	}
	f.mu.Lock()
	f.closed = true
	open := slices.Collect(maps.Keys(f.clients))
	f.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
	f.work.Wait()
	return errors.Join(errs...)
}
