package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sys/unix"
)

// tlsTimeout is how long a handshake may take: 10,000 boards that reconnect at once take 7 s of one core.
const tlsTimeout = 10 * time.Second

// maxHeader bounds the request with which a websocket begins, in bytes; a client library's has some 200.
const maxHeader = 4 << 10

// pieceSize is the number of bytes that are read at once: a TLS record (RFC 8446, section 5.1).
const pieceSize = 16 << 10

// pieces are shared by all connections: one that waits has none.
var pieces = sync.Pool{New: func() any { b := make([]byte, pieceSize); return &b }}

// link carries bytes to and from a client, decrypted. One goroutine receives and one sends.
type link interface {
	// receive hands pieces over as they arrive, until an error, of take too. A piece is valid during the call.
	receive(take func([]byte) error) error
	// send writes within writeTimeout.
	send(b []byte) error
	// finish tells the client that nothing more comes. It goes on receiving.
	finish()
}

// tlsLink is TLS on a socket, behind a greeting in plain.
type tlsLink struct {
	client *client
	socket *supplied
	conn   *tls.Conn
}

// newTLSLink greets and waits for the handshake. A client that begins with TLS is greeted behind the handshake: so it passes a proxy
// that sorts connections by the name which they ask for (SNI).
func newTLSLink(c *client, config *tls.Config) (*tlsLink, error) {
	secureFirst, err := begins(c.TCPConn, handshakeRecord)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(tlsTimeout)); err != nil {
		return nil, err
	}
	if !secureFirst {
		if _, err := c.TCPConn.Write(c.greeting()); err != nil {
			return nil, err
		}
	}
	s := &supplied{Conn: c}
	l := &tlsLink{client: c, socket: s, conn: tls.Server(s, config)}
	if err := l.conn.Handshake(); err != nil {
		return nil, err
	}
	if secureFirst {
		if _, err := l.conn.Write(c.greeting()); err != nil {
			return nil, err
		}
	}
	s.supply = true
	return l, c.SetDeadline(time.Time{})
}

const (
	// handshakeRecord is the first byte of TLS (RFC 8446, section 5.1: handshake); no operation of a NATS client begins with it.
	handshakeRecord = 0x16
	// firstWait is how long a client may take to begin with TLS by itself, as nats-server's handshake_first has it (const.go,
	// DEFAULT_TLS_HANDSHAKE_FIRST_FALLBACK_DELAY).
	firstWait = 50 * time.Millisecond
)

// begins reports whether a client speaks first, with this byte, which it does not consume. One that says nothing for firstWait waits to
// be greeted.
func begins(c *net.TCPConn, with byte) (yes bool, err error) {
	if err := c.SetReadDeadline(time.Now().Add(firstWait)); err != nil {
		return false, err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false, err
	}
	var (
		first  [1]byte
		n      int
		failed error
	)
	err = raw.Read(func(fd uintptr) bool {
		n, _, failed = unix.Recvfrom(int(fd), first[:], unix.MSG_PEEK)
		return failed != unix.EAGAIN && failed != unix.EINTR
	})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false, nil
	case err != nil:
		return false, err
	}
	return failed == nil && n == 1 && first[0] == with, failed
}

func (l *tlsLink) receive(take func([]byte) error) error {
	for {
		if err := l.drain(take); err != nil {
			return err
		}
		piece, n, err := readWhenReady(l.client.TCPConn)
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err != nil {
			return err
		}
		l.socket.bytes = (*piece)[:n]
		if err = errAway; l.client.pay(n) {
			err = l.drain(take)
		}
		pieces.Put(piece)
		if err != nil {
			return err
		}
	}
}

// drain decrypts all that the socket was supplied with.
func (l *tlsLink) drain(take func([]byte) error) error {
	piece := pieces.Get().(*[]byte)
	defer pieces.Put(piece)
	for {
		n, err := l.conn.Read(*piece)
		if n > 0 {
			if err := take((*piece)[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, errDry) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (l *tlsLink) send(b []byte) error {
	if err := l.client.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := l.conn.Write(b)
	return err
}

func (l *tlsLink) finish() {
	_ = l.conn.CloseWrite() // the client has gone, or reads it
	_ = l.client.CloseWrite()
}

// supplied is the socket below TLS. After the handshake, reads take only bytes that were supplied,
// so that TLS never waits, and the goroutine that does needs no buffer.
type supplied struct {
	net.Conn
	supply bool
	bytes  []byte
}

func (s *supplied) Read(b []byte) (int, error) {
	if !s.supply {
		return s.Conn.Read(b)
	}
	if len(s.bytes) == 0 {
		return 0, errDry
	}
	n := copy(b, s.bytes)
	s.bytes = s.bytes[n:]
	return n, nil
}

// dry is the error of a supplied socket without bytes. It is a net.Error and temporary: crypto/tls
// keeps its state and goes on with the next read (Conn.readRecordOrCCS).
type dry struct{}

var errDry error = dry{}

func (dry) Error() string   { return "no bytes yet" }
func (dry) Timeout() bool   { return true }
func (dry) Temporary() bool { return true }

// readWhenReady reads into a piece that it takes only when there is something
// to read: thousands of idle connections share a few. The caller gives the
// piece back; without an error there is one. n is 0 at the end.
func readWhenReady(c *net.TCPConn) (piece *[]byte, n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, 0, err
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		piece = pieces.Get().(*[]byte)
		for {
			n, failed = syscall.Read(int(fd), *piece)
			if failed != syscall.EINTR {
				break
			}
		}
		if failed == syscall.EAGAIN {
			pieces.Put(piece)
			piece = nil
			return false
		}
		return true
	})
	if err == nil {
		err = failed
	}
	if err != nil && piece != nil {
		pieces.Put(piece)
		piece = nil
	}
	return piece, max(n, 0), err
}

// serveWebSocket accepts clients that begin with an HTTP request.
func (f *front) serveWebSocket(d *door) {
	s := &http.Server{
		Handler:           http.HandlerFunc(f.upgrade),
		ReadHeaderTimeout: tlsTimeout, IdleTimeout: tlsTimeout, WriteTimeout: tlsTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // strangers cause its lines
	}
	_ = s.Serve(tls.NewListener(acceptor{f, d}, f.tls)) // until the door closes
	ctx, cancel := context.WithTimeout(context.Background(), tlsTimeout)
	defer cancel()
	_ = s.Shutdown(ctx) // its handlers have ended: their clients are closed, too
}

// acceptor is a door as a net.Listener.
type acceptor struct {
	front *front
	door  *door
}

func (a acceptor) Accept() (net.Conn, error) { return a.front.accept(a.door) }
func (a acceptor) Close() error              { return a.door.listener.Close() }
func (a acceptor) Addr() net.Addr            { return a.door.listener.Addr() }

// upgrader takes any origin: a board is no browser, and its key is no cookie.
var upgrader = websocket.Upgrader{
	HandshakeTimeout: tlsTimeout, ReadBufferSize: maxHeader, WriteBufferSize: maxHeader, WriteBufferPool: &sync.Pool{},
	CheckOrigin: func(*http.Request) bool { return true },
}

// upgrade makes a websocket of a request and serves its client.
func (f *front) upgrade(w http.ResponseWriter, r *http.Request) {
	f.work.Add(1) // the server, which is counted there, has not ended
	defer f.work.Done()
	defer f.panics.caught("upgrade a connection")
	w.Header().Set("Connection", "close") // of an answer that is no upgrade
	switch {
	case r.Method != http.MethodGet:
		http.Error(w, "boards connect here by websocket", http.StatusMethodNotAllowed)
		return
	case strings.HasSuffix(r.URL.Path, "/leafnode"), strings.HasSuffix(r.URL.Path, "/mqtt"): // nats-server's other protocols
		http.NotFound(w, r)
		return
	}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the client has been told
	}
	secure, ok := conn.NetConn().(*tls.Conn)
	if !ok {
		conn.Close()
		return
	}
	c := secure.NetConn().(*client)
	l := &websocketLink{conn: conn}
	if err := l.send(c.greeting()); err != nil {
		c.Close()
		return
	}
	c.begin(l)
}

// websocketLink is TLS, HTTP and binary messages, whose bounds say nothing.
type websocketLink struct{ conn *websocket.Conn }

func (l *websocketLink) receive(take func([]byte) error) error {
	for {
		_, r, err := l.conn.NextReader()
		if err != nil {
			return err
		}
		if err := l.message(r, take); err != nil {
			return err
		}
	}
}

func (l *websocketLink) message(r io.Reader, take func([]byte) error) error {
	piece := pieces.Get().(*[]byte)
	defer pieces.Put(piece)
	for {
		n, err := r.Read(*piece)
		if n > 0 {
			if err := take((*piece)[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (l *websocketLink) send(b []byte) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return l.conn.WriteMessage(websocket.BinaryMessage, b)
}

func (l *websocketLink) finish() {
	_ = l.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(writeTimeout))
}
