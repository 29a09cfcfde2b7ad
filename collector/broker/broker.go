package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"bramble/collector/registry"
	"bramble/pisensor/report"
)

// Limits of a client.
const (
	maxPayload   = 256 << 10 // bytes; a report has at most a quarter of it
	maxSubs      = 16        // a board needs two
	maxClients   = 1 << 17
	writeTimeout = 5 * time.Second
	startTimeout = 10 * time.Second
	// deliveryQueue bounds the messages that wait to be given to their boards, which takes some
	// microseconds each. Boards report again what was not acknowledged.
	deliveryQueue = 1 << 16
)

// Options say where to listen and whom to let in. Addr, Dir and Registry are required.
type Options struct {
	Addr       string   // host:port; an empty host is every address, port 0 a free one
	WebSocket  string   // host:port for boards that reach us as wss:// only; empty = none
	Dir        string   // the data directory; the CA lives there
	Names      []string // further host names or addresses for the server's certificate
	Registry   *registry.Registry
	Log        *slog.Logger          // nil: slog.Default
	Registerer prometheus.Registerer // nil: not registered
	// Enough returns for how many connections of boards the limit of open files
	// is enough, of which there are some already. nil: for 131,072.
	Enough func(connected int) int
}

// Broker is a running message server. It is safe for concurrent use.
type Broker struct {
	server *server.Server
	gate   *gate
	front  *front
	nc     *nats.Conn
	pin    string

	registerer prometheus.Registerer
	collectors []prometheus.Collector

	stop   context.CancelFunc
	worker sync.WaitGroup
}

// New starts the message server and answers enrolments until Close.
func New(o Options) (_ *Broker, err error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if err := checkLost(o.Dir, o.Registry); err != nil {
		return nil, err
	}
	ca, err := openAuthority(o.Dir)
	if err != nil {
		return nil, err
	}
	count := newMetrics()
	front, err := listenFront(o.Addr, o.WebSocket, count, o.Log)
	if err != nil {
		return nil, err
	}
	front.gate = newGate(o, front)
	b := &Broker{front: front, gate: front.gate, pin: report.Pin(ca.cert), registerer: o.Registerer, stop: func() {}}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	if front.tls, err = serverTLS(o, ca, front.panics); err != nil {
		return nil, err
	}
	if b.server, err = start(newServerLog(front.log)); err != nil {
		return nil, err
	}
	if b.nc, err = b.connect(o.Log); err != nil {
		return nil, err
	}
	front.publish = b.nc.Publish
	if err = b.register(count); err != nil {
		return nil, err
	}
	if err = b.serve(o, count); err != nil {
		return nil, err
	}
	front.open()
	return b, nil
}

// start runs a message server that only this process reaches.
func start(log *serverLog) (*server.Server, error) {
	ns, err := server.NewServer(&server.Options{
		ServerName: "bramble", DontListen: true, NoSigs: true, NoSystemAccount: true,
		NoHeaderSupport: true, // headers carry nothing that the collector needs
		MaxPayload:      maxPayload, WriteDeadline: writeTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("start message server: %w", err)
	}
	ns.SetLoggerV2(log, false, false, false)
	ns.Start()
	ready := ns.ReadyForConnections(startTimeout)
	select {
	case reason := <-log.fatal:
		ready = false
		err = fmt.Errorf("start message server: %s", reason)
	default:
		err = fmt.Errorf("start message server: not ready within %v", startTimeout)
	}
	if !ready {
		ns.Shutdown()
		ns.WaitForShutdown()
		return nil, err
	}
	return ns, nil
}

// serverTLS is that of both doors.
func serverTLS(o Options, ca *authority, faults *panics) (*tls.Config, error) {
	names := o.Names
	for _, addr := range []string{o.Addr, o.WebSocket} {
		host, _, _ := net.SplitHostPort(addr) // the front listens there, so it is one
		names = append([]string{host}, names...)
	}
	chain, err := newChain(ca, serverNames(names))
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: authenticated, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		defer faults.caught("choose a certificate") // none ends this handshake
		return chain.get(hello)
	}}, nil
}

// authenticated are the cipher suites of TLS 1.2 that encrypt and authenticate in one (AEAD); those of TLS 1.3 all do, and are not
// configurable. The CBC suites that Go still has by default are left out.
var authenticated = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// connect opens the collector's own connection, within the process.
func (b *Broker) connect(log *slog.Logger) (*nats.Conn, error) {
	nc, err := nats.Connect("", nats.Name("collector"), nats.InProcessServer(b.server), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			subject := ""
			if s != nil {
				subject = s.Subject
			}
			log.Warn("collector's own connection", "subject", subject, "err", err)
		}))
	if err != nil {
		return nil, fmt.Errorf("connect to own message server: %w", err)
	}
	return nc, nil
}

func (b *Broker) register(count *metrics) error {
	if b.registerer == nil {
		return nil
	}
	for _, c := range append(count.collectors(b.front), b.front.collectors()...) {
		if err := b.registerer.Register(c); err != nil {
			return fmt.Errorf("register broker metrics: %w", err)
		}
		b.collectors = append(b.collectors, c)
	}
	return nil
}

// serve answers enrolments, and delivers to the boards the messages for them.
func (b *Broker) serve(o Options, count *metrics) error {
	requests, deliveries := make(chan *nats.Msg, enrolQueue), make(chan *nats.Msg, deliveryQueue)
	for subject, queue := range map[string]chan *nats.Msg{
		report.EnrolSubject: requests, report.EnrolAnswerSubject("*", "*"): deliveries, report.AckSubject("*"): deliveries, report.ControlSubject("*"): deliveries,
	} {
		if _, err := b.nc.ChanSubscribe(subject, queue); err != nil {
			return fmt.Errorf("subscribe %s: %w", subject, err)
		}
	}
	if err := b.nc.Flush(); err != nil {
		return fmt.Errorf("subscribe for the boards' door: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	g := &registrar{registry: o.Registry, nc: b.nc, count: count, panics: b.front.panics, log: o.Log, expel: b.gate.expel, lines: rate.NewLimiter(logRate, logBurst), buckets: map[string]*rate.Limiter{}}
	b.worker.Go(func() { g.run(ctx, requests) })
	b.worker.Go(func() {
		for {
			select {
			case m := <-deliveries:
				b.front.deliver(m.Subject, m.Data)
			case <-ctx.Done():
				return
			}
		}
	})
	if o.Enough != nil {
		b.front.countPlaces(o.Enough)
		b.worker.Go(func() { b.front.watchPlaces(ctx, o.Enough) })
	}
	return nil
}

// Conn is the collector's own connection. It may publish and subscribe
// everything; Close closes it.
func (b *Broker) Conn() *nats.Conn { return b.nc }

// URL is where a client on this machine reaches the server. Other machines use
// one of its addresses instead.
func (b *Broker) URL() string { return b.front.doors[0].url("nats") }

// WebSocketURL is URL for clients that speak wss:// only, empty where there is
// no listener for them.
func (b *Broker) WebSocketURL() string {
	if len(b.front.doors) < 2 {
		return ""
	}
	return b.front.doors[1].url("wss")
}

func (d *door) url(scheme string) string {
	a := d.listener.Addr().(*net.TCPAddr)
	host := a.IP.String()
	if a.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(a.Port))
}

// Places is how many boards may be connected, by the limit of open files.
func (b *Broker) Places() int {
	b.front.mu.Lock()
	defer b.front.mu.Unlock()
	return b.front.places.limit - b.front.places.door()
}

// Pin names the CA, for tokens and sensors. It stays the same across restarts.
func (b *Broker) Pin() string { return b.pin }

// PinOf returns the pin of the CA in a data directory, which it creates where
// there is none, without a running server.
func PinOf(dir string) (string, error) {
	ca, err := openAuthority(dir)
	if err != nil {
		return "", err
	}
	return report.Pin(ca.cert), nil
}

// Disconnect closes the board's live connection, if there is one, before it
// returns. The board may come back as long as its key is in force.
func (b *Broker) Disconnect(board string) { b.gate.expel(board) }

// Address returns the network address of the board's last connection since the
// start, invalid where there was none.
func (b *Broker) Address(board string) netip.Addr {
	b.gate.mu.Lock()
	defer b.gate.mu.Unlock()
	p := b.gate.live[board]
	if p == nil {
		return netip.Addr{}
	}
	from, err := netip.ParseAddrPort(p.from)
	if err != nil {
		return netip.Addr{}
	}
	return from.Addr().Unmap()
}

// Close cuts all connections and stops the server.
func (b *Broker) Close() error {
	err := b.front.close()
	b.stop()
	b.worker.Wait()
	if b.nc != nil {
		b.nc.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	for _, c := range b.collectors {
		b.registerer.Unregister(c)
	}
	return err
}
