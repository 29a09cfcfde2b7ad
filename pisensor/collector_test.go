package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"bramble/pisensor/report"
)

// patience ends a test that hangs. A machine that is busy with other tests may take a minute for a second's work.
const patience = 2 * time.Minute

// placed is a reading as the collector stores it.
type placed struct {
	series report.Series
	at     int64
}

// collector is a real NATS server under a CA of its own, and the least that
// has to stand behind it: it enrols, stores and acknowledges.
type collector struct {
	t     testing.TB
	opts  *server.Options
	pin   string
	token report.Token
	url   string

	mu       sync.Mutex
	server   *server.Server
	conn     *nats.Conn
	boards   map[string]string // public key → name
	used     bool
	keepAcks bool // reports are stored and not acknowledged
	loseAcks int  // so many acks are lost
	values   map[placed]int64
	info     map[report.AttributeKey]string
	goodbyes int
	moved    int
	ticks    map[uint32]map[uint64]int64 // time of each tick, by session and number
	taken    map[uint32][]report.Range   // by session: not yet acknowledged
	arrived  chan struct{}               // holds at most one note that something came
}

func newCollector(t testing.TB) *collector {
	t.Helper()
	config, pin := certificates(t)
	c := &collector{
		t: t, pin: pin, token: report.NewToken(pin), boards: map[string]string{},
		values: map[placed]int64{}, ticks: map[uint32]map[uint64]int64{}, taken: map[uint32][]report.Range{}, info: map[report.AttributeKey]string{}, arrived: make(chan struct{}, 1),
	}
	c.opts = &server.Options{
		Host: "127.0.0.1", Port: freePort(t), NoLog: true, NoSigs: true, AlwaysEnableNonce: true,
		TLSConfig: config, TLSTimeout: 30, CustomClientAuthentication: c,
	}
	c.opts.Websocket = server.WebsocketOpts{Host: "127.0.0.1", Port: -1, TLSConfig: config}
	c.start()
	c.url = c.server.ClientURL()
	t.Cleanup(c.stop)
	return c
}

// freePort returns a port from below those that the kernel gives to connections: none takes it while a server restarts. Nor
// do the tests of collector and dashboards, which run at the same time.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(24_000+rand.IntN(4_000))))
		if err == nil {
			defer l.Close()
			return l.Addr().(*net.TCPAddr).Port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func (c *collector) start() {
	s, err := server.NewServer(c.opts)
	if err != nil {
		c.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		c.t.Fatal("server is not ready")
	}
	conn, err := nats.Connect("", nats.InProcessServer(s), nats.UserInfo("collector", "collector"),
		nats.Secure(&tls.Config{InsecureSkipVerify: true}), nats.Timeout(patience))
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.server, c.conn = s, conn
	c.mu.Unlock()
	for subject, f := range map[string]nats.MsgHandler{report.AllTelemetry: c.telemetry, report.EnrolSubject: c.enrol} {
		if _, err := conn.Subscribe(subject, f); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := conn.Flush(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *collector) stop() {
	c.conn.Close()
	c.server.Shutdown()
	c.server.WaitForShutdown()
}

// Check authenticates a connection as the real collector does: boards by their nkey, an enrolment by its token
// (server.Authentication).
func (c *collector) Check(client server.ClientAuthentication) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := client.GetOpts()
	allow := func(pub, sub []string) bool {
		client.RegisterUser(&server.User{Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: pub}, Subscribe: &server.SubjectPermission{Allow: sub},
		}})
		return true
	}
	switch {
	case o.Username == "collector":
		return true
	case o.Token == c.token.Credentials() && !c.used:
		return allow([]string{report.EnrolSubject}, []string{report.EnrolInbox(c.token.ID)})
	}
	board, known := c.boards[o.Nkey]
	key, err := nkeys.FromPublicKey(o.Nkey)
	signature, bad := base64.RawURLEncoding.DecodeString(o.Sig)
	if !known || err != nil || bad != nil || key.Verify(client.GetNonce(), signature) != nil {
		return false
	}
	return allow([]string{report.TelemetrySubject(board)}, []string{report.AckSubject(board), report.ControlSubject(board)})
}

func (c *collector) enrol(m *nats.Msg) {
	q, err := report.DecodeEnrolRequest(m.Data)
	if err != nil {
		c.t.Error(err)
		return
	}
	c.mu.Lock()
	c.boards[q.Key] = "pi-1"
	c.mu.Unlock()
	for _, a := range []report.EnrolAnswer{{Key: "another board's", Board: "pi-2"}, {Key: q.Key, Board: "pi-1"}} {
		b, err := json.Marshal(a)
		if err != nil {
			c.t.Error(err)
		}
		c.publish(report.EnrolInbox(c.token.ID), b)
	}
}

func (c *collector) publish(subject string, b []byte) {
	if err := c.conn.Publish(subject, b); err != nil && !strings.Contains(err.Error(), "closed") {
		c.t.Error(err)
	}
}

func (c *collector) telemetry(m *nats.Msg) {
	defer func() {
		select {
		case c.arrived <- struct{}{}:
		default:
		}
	}()
	board, _ := report.BoardOf(m.Subject)
	a := report.Ack{Time: time.Now().UnixMilli()}
	if report.IsReport(m.Data) {
		if !c.store(m.Data, &a) {
			return
		}
	} else if h, err := report.DecodeHello(m.Data); err != nil {
		c.t.Error(err)
	} else {
		a.Session, a.Nonce = h.Session, h.Nonce
	}
	c.publish(report.AckSubject(board), a.Append(nil))
}

// store keeps a report's readings and reports whether to acknowledge them.
func (c *collector) store(b []byte, a *report.Ack) bool {
	var r report.Report
	if err := r.Decode(b); err != nil {
		c.t.Error(err)
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range r.Info {
		c.info[x.Key] = x.Value
	}
	if c.ticks[r.Session] == nil {
		c.ticks[r.Session] = map[uint64]int64{}
	}
	for i := range r.Ticks() {
		n := r.First + uint64(i)
		if was, ok := c.ticks[r.Session][n]; ok && was != r.At(i) {
			c.moved++
		}
		c.ticks[r.Session][n] = r.At(i)
	}
	for _, column := range r.Columns {
		for i, v := range column.Values {
			if v == report.Missing {
				continue
			}
			k := placed{column.Series, r.At(i)}
			if was, ok := c.values[k]; ok && was != v {
				c.moved++
			}
			c.values[k] = v
		}
	}
	if r.Goodbye {
		c.goodbyes++
	}
	c.taken[r.Session] = append(c.taken[r.Session], report.Range{First: r.First, Count: uint64(r.Ticks())})
	if r.AckLater {
		return false
	}
	a.Session, a.Ranges = r.Session, c.taken[r.Session]
	c.taken[r.Session] = nil
	if c.loseAcks > 0 {
		c.loseAcks--
		return false
	}
	return !c.keepAcks
}

// until waits for a report after which the condition, called under the lock, holds.
func (c *collector) until(what string, condition func() bool) {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		c.mu.Lock()
		ok := condition()
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-c.arrived:
		case <-deadline:
			c.t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// certificates makes a CA and a leaf under it. It returns the server's
// configuration and the CA's pin.
func certificates(t testing.TB) (*tls.Config, string) {
	t.Helper()
	ca, caKey := certificate(t, nil, nil)
	leaf, leafKey := certificate(t, ca, caKey)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw, ca.Raw}, PrivateKey: leafKey}}}, report.Pin(ca)
}

func certificate(t testing.TB, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "collector"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	if parent == nil {
		form.IsCA, form.KeyUsage, form.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
		parent, parentKey = form, key
	}
	raw, err := x509.CreateCertificate(crand.Reader, form, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}
