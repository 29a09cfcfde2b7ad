package sensor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"bramble/pisensor/backoff"
	"bramble/pisensor/report"
)

const (
	// reconnectFirst and reconnectMax bound the wait between two attempts to
	// connect.
	reconnectFirst = 2 * time.Second
	reconnectMax   = 30 * time.Second
	// refusedMax bounds it where the collector refuses the board, or is not the
	// pinned one: it will not change its mind soon, and each attempt's handshake
	// is half a second's work for the slowest boards.
	refusedMax = 5 * time.Minute
	// reconnectSpread is over how long ten thousand boards that lose their
	// collector together come back.
	reconnectSpread = 8 * time.Second
	// powerUp is how long after its boot a board counts as one of a rack that has
	// just got its power back, and powerUpSpread over how long these connect.
	powerUp       = 5 * time.Minute
	powerUpSpread = 10 * time.Second
	// pingInterval is rare: missing acknowledgements find a connection that
	// died silently, and each ping costs a wake-up.
	pingInterval = 10 * time.Minute
	// flushTime bounds a clean stop's last write.
	flushTime = 2 * time.Second
	// inbox holds messages from the collector until the loop takes them. A
	// burst beyond it is dropped: acks come again when reports do.
	inbox = 64
)

// natsLink is the connection to the collector. It reconnects for ever.
type natsLink struct {
	options  []nats.Option
	url      string
	board    string
	subject  string        // of telemetry
	delay    time.Duration // before the first attempt to connect
	log      *slog.Logger
	messages chan *nats.Msg
	changed  chan struct{} // holds at most one note that the connection changed

	ready atomic.Bool   // its subscriptions are made
	count atomic.Uint64 // connections so far
	up    atomic.Bool

	refused atomic.Bool // the last attempt reached somebody, in vain

	work    sync.WaitGroup     // connecting and probing
	stop    context.Context    // ends with the link
	cancel  context.CancelFunc // ends stop
	probing atomic.Bool

	mu     sync.Mutex
	conn   *nats.Conn
	closed bool

	trouble atomic.Pointer[string] // the error that was last logged
}

func newLink(o *Options) (*natsLink, error) {
	public, err := o.Key.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("read the board's key: %w", err)
	}
	l := &natsLink{
		url: o.URL, board: o.Board, subject: report.TelemetrySubject(o.Board), log: o.Log.With("board", o.Board, "url", o.URL),
		messages: make(chan *nats.Msg, inbox), changed: make(chan struct{}, 1),
	}
	l.stop, l.cancel = context.WithCancel(context.Background())
	if o.Uptime() < powerUp {
		l.delay = rand.N(powerUpSpread)
	}
	l.options = l.configure(nats.Nkey(public, o.Key.Sign), o.Pin)
	if o.Dial != nil {
		l.options = append(l.options, nats.SetCustomDialer(dialer(o.Dial)))
	} else {
		l.options = append(l.options, Dialing(connectTime)...)
	}
	return l, nil
}

// dialer is a func as nats.CustomDialer.
type dialer func(network, address string) (net.Conn, error)

func (d dialer) Dial(network, address string) (net.Conn, error) { return d(network, address) }

func (l *natsLink) configure(identity nats.Option, pin string) []nats.Option {
	options := []nats.Option{
		identity,
		nats.Name("pisensor " + l.board),
		nats.CustomInboxPrefix("_INBOX." + l.board),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),  // a board that is enrolled again gets in without a restart
		nats.SkipSubjectValidation(), // the board's name was checked
		nats.ReconnectBufSize(-1),    // the spool is the buffer
		nats.CustomReconnectDelay(func(attempts int) time.Duration {
			l.reportLast()
			if l.refused.Load() {
				return reconnectDelay(attempts, refusedMax)
			}
			return reconnectDelay(attempts, reconnectMax)
		}),
		nats.PingInterval(pingInterval),
		nats.ConnectHandler(func(*nats.Conn) { l.connected() }),
		nats.ReconnectHandler(func(*nats.Conn) { l.connected() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { l.disconnected(err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { l.report(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { l.report(err) }),
	}
	if pin != "" {
		secure := PinnedTLS(pin, func(err error) {
			l.refused.Store(true)
			l.report(err)
		})
		// The hybrid with ML-KEM, which comes first by default, sends 2.3 kB more for each
		// connection (FIPS 203, table 3), as much as 200 readings take. It protects today's secrets
		// from a future quantum computer. No secret is sent here: the board's key signs. An
		// enrolment sends a token, so it uses the hybrid.
		secure.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256}
		options = append(options, nats.Secure(secure))
	}
	return options
}

// reconnectDelay spreads the first attempt, and backs off from it up to most.
func reconnectDelay(attempts int, limit time.Duration) time.Duration {
	if attempts <= 1 {
		return reconnectFirst/4 + rand.N(reconnectSpread)
	}
	return backoff.Wait(reconnectFirst, limit, attempts-1)
}

// PinnedTLS accepts a server only if report.VerifyPinned does. refused, which
// may be nil, is called with the reason of every refusal, since the client
// library shows it as a mere time-out.
func PinnedTLS(pin string, refused func(error)) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // VerifyConnection checks the chain against the pin instead of the host's roots
		VerifyConnection: func(s tls.ConnectionState) error {
			err := report.VerifyPinned(s.PeerCertificates, pin)
			if err != nil && refused != nil {
				refused(err)
			}
			return err
		},
	}
}

// open starts connecting, which can take as long as a name look-up does, and
// returns at once. It never fails on an unreachable server.
func (l *natsLink) open() error {
	l.work.Go(func() {
		if !sleep(l.stop, l.delay) {
			return
		}
		if err := l.connect(); err != nil {
			l.log.Error("connect", "err", err)
		}
	})
	return nil
}

// sleep reports whether the time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (l *natsLink) connect() error {
	conn, err := nats.Connect(l.url, l.options...)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", l.url, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		conn.Close()
		return nil
	}
	l.conn = conn
	for _, subject := range []string{report.AckSubject(l.board), report.ControlSubject(l.board)} {
		if _, err := conn.ChanSubscribe(subject, l.messages); err != nil {
			return fmt.Errorf("subscribe %s: %w", subject, err)
		}
	}
	l.ready.Store(true)
	l.note()
	return nil
}

func (l *natsLink) note() {
	select {
	case l.changed <- struct{}{}:
	default: // one note is waiting already
	}
}

func (l *natsLink) connected() {
	l.count.Add(1)
	l.up.Store(true)
	l.refused.Store(false)
	l.trouble.Store(nil)
	l.log.Info("connected to the collector")
	l.note()
}

func (l *natsLink) disconnected(err error) {
	l.up.Store(false)
	if err != nil {
		l.report(err)
	}
	l.note()
}

// report logs why the connection is down, once until the reason changes.
func (l *natsLink) report(err error) {
	if errors.Is(err, nats.ErrAuthorization) {
		l.refused.Store(true)
	}
	text := describe(err)
	if old := l.trouble.Swap(&text); old != nil && *old == text {
		return
	}
	l.log.Error("connection to the collector", "err", text)
}

// reportLast logs why the last attempt failed: the library calls no handler
// where a server answers, and is not the right one.
func (l *natsLink) reportLast() {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn == nil {
		return
	}
	if err := conn.LastError(); err != nil {
		l.report(err)
	}
}

// Epoch is the number of the current connection, 0 while there is none.
func (l *natsLink) Epoch() uint64 {
	if !l.ready.Load() || !l.up.Load() {
		return 0
	}
	return l.count.Load()
}

// Publish sends on the board's telemetry subject.
func (l *natsLink) Publish(b []byte) error {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn == nil {
		return errors.New("publish without a connection")
	}
	return conn.Publish(l.subject, b)
}

// Close flushes published messages and ends the connection. It waits for a connection attempt or a
// probe that is under way. A collector that goes away meanwhile is no error: the readings are
// acknowledged, and a goodbye may be lost.
func (l *natsLink) Close() error {
	l.mu.Lock()
	conn := l.conn
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	l.work.Wait()
	if conn == nil {
		return nil
	}
	defer conn.Close()
	if !conn.IsConnected() {
		return nil
	}
	if err := conn.FlushTimeout(flushTime); err != nil {
		l.log.Debug("flush", "err", err)
	}
	return nil
}

// probeTime is how long the collector's server may take to answer a ping that
// was sent because acknowledgements are missing.
const probeTime = 8 * time.Second

// Probe asks the server for a sign of life. A host that vanished without
// closing the connection gives none: the connection is then made anew, since
// the kernel alone would hold on to it for a quarter of an hour.
func (l *natsLink) Probe() {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn == nil || !l.up.Load() || !l.probing.CompareAndSwap(false, true) {
		return
	}
	l.work.Go(func() {
		defer l.probing.Store(false)
		ctx, cancel := context.WithTimeout(l.stop, probeTime)
		defer cancel()
		if err := conn.FlushWithContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
			return // it answers, or it is gone and known to be
		}
		l.report(fmt.Errorf("no sign of life from the server in %v", probeTime))
		if err := conn.ForceReconnect(); err != nil {
			l.log.Debug("reconnect", "err", err)
		}
	})
}
