package broker

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"bramble/collector/registry"
	"bramble/pisensor/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a real broker on a real registry.
type rig struct {
	*Broker
	t        testing.TB
	dir      string
	registry *registry.Registry
	metrics  *prometheus.Registry
	log      *bytes.Buffer
	at       string // where dial connects to
}

func newRig(t testing.TB, dir string) *rig { return newRigAt(t, dir, "127.0.0.1:0") }

// newRigAt listens on the address for both kinds of clients.
func newRigAt(t testing.TB, dir, addr string) *rig { return newRigWith(t, dir, addr, nil) }

// newRigWith has places for so many connections as enough says.
func newRigWith(t testing.TB, dir, addr string, enough func(int) int) *rig {
	t.Helper()
	db, err := registry.OpenDB(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	reg, err := registry.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, registry: reg, metrics: prometheus.NewRegistry(), log: &bytes.Buffer{}}
	r.Broker, err = New(Options{Addr: addr, WebSocket: addr, Dir: dir, Registry: reg, Registerer: r.metrics, Enough: enough,
		Log: slog.New(slog.NewTextHandler(r.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	r.at = r.URL()
	return r
}

// value returns a counter's value, by its only label's value, as a scrape sees it.
func value(t testing.TB, g prometheus.Gatherer, name, label string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

func (r *rig) counted(name, label string) float64 {
	r.t.Helper()
	return value(r.t, r.metrics, name, label)
}

// waitFor polls until the condition holds.
func (r *rig) waitFor(what string, ok func() bool) {
	r.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func newKey(t testing.TB) (nkeys.KeyPair, string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return pair, public
}

// pinned is how a sensor checks the server.
func pinned(pin string) nats.Option {
	return nats.Secure(&tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
		return report.VerifyPinned(s.PeerCertificates, pin)
	}})
}

func withKey(pair nkeys.KeyPair) nats.Option {
	public, _ := pair.PublicKey()
	return nats.Nkey(public, pair.Sign)
}

// dial connects once, without reconnecting. Asynchronous errors go to errs.
func (r *rig) dial(o ...nats.Option) (*nats.Conn, chan error, error) {
	errs := make(chan error, 100)
	all := []nats.Option{pinned(r.Pin()), nats.NoReconnect(), nats.Timeout(30 * time.Second),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err })}
	nc, err := nats.Connect(r.at, append(all, o...)...)
	if err == nil {
		r.t.Cleanup(nc.Close)
	}
	return nc, errs, err
}

// board registers a board with a key and connects it.
func (r *rig) board(name string) (*nats.Conn, chan error, nkeys.KeyPair) {
	r.t.Helper()
	r.must(r.registry.AddBoard(r.t.Context(), name, nil))
	pair := r.key(name)
	nc, errs, err := r.dial(withKey(pair))
	r.must(err)
	return nc, errs, pair
}

// tryBoard connects a registered board with another key.
func (r *rig) tryBoard(name string) (*nats.Conn, error) {
	r.t.Helper()
	nc, _, err := r.dial(withKey(r.key(name)))
	return nc, err
}

// key enrols a new key for a board.
func (r *rig) key(name string) nkeys.KeyPair {
	r.t.Helper()
	token, err := r.registry.NewBoardToken(r.t.Context(), name, r.Pin())
	r.must(err)
	pair, public := newKey(r.t)
	_, err = r.registry.Enrol(r.t.Context(), report.EnrolRequest{Token: token.Credentials(), Key: public})
	r.must(err)
	return pair
}

// patience ends a test that hangs. It claims nothing: a machine that tests much at once is slow.
const patience = time.Minute

// receive waits for an event.
func receive[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing within %s", what, patience)
		panic("unreachable")
	}
}

func (r *rig) subscribe(nc *nats.Conn, subject string) chan *nats.Msg {
	r.t.Helper()
	c := make(chan *nats.Msg, 100)
	_, err := nc.ChanSubscribe(subject, c)
	r.must(err)
	r.must(nc.Flush())
	return c
}

func TestBoardSpeaksOnItsOwnSubjects(t *testing.T) {
	r := newRig(t, t.TempDir())
	heard := r.subscribe(r.Conn(), report.AllTelemetry)
	nc, errs, _ := r.board("b1")
	acks, controls := r.subscribe(nc, "ack.b1"), r.subscribe(nc, "control.b1")
	r.must(nc.Publish("telemetry.b1", []byte("report")))
	r.must(nc.Flush())
	if m := receive(t, heard, "telemetry"); m.Subject != "telemetry.b1" || string(m.Data) != "report" {
		t.Errorf("heard %q on %s", m.Data, m.Subject)
	}
	r.must(r.Conn().Publish("ack.b1", []byte("ack")))
	r.must(r.Conn().Publish("control.b1", []byte("control")))
	receive(t, acks, "ack")
	receive(t, controls, "control")
	if len(errs) > 0 {
		t.Errorf("error: %v", <-errs)
	}
}

func TestEverythingElseIsRefusedToABoard(t *testing.T) {
	r := newRig(t, t.TempDir())
	everything := r.subscribe(r.Conn(), ">")
	nc, errs, _ := r.board("b1")
	other, _, _ := r.board("b2")
	otherAcks, otherControls := r.subscribe(other, "ack.b2"), r.subscribe(other, "control.b2")
	for _, subject := range []string{
		"telemetry.b2", "telemetry.b1.x", "telemetry", "ack.b1", "ack.b2", "control.b1", "control.b2", "enrol", "enrol.x",
		"$SYS.REQ.SERVER.PING", "$SYS.ACCOUNT.$G.SERVER.CONNS", "$JS.API.INFO", "$JS.API.STREAM.CREATE.x", "$JS.ACK.x", "_INBOX.x", "any",
	} {
		r.must(nc.Publish(subject, []byte("evil")))
		r.must(nc.Flush())
		if err := receive(t, errs, "publish "+subject); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("publish %s: %v", subject, err)
		}
	}
	for _, subject := range []string{
		">", "*", "*.b1", "*.*", "telemetry.b1", "telemetry.*", "telemetry.>", "ack.*", "ack.b2", "control.*", "control.b2",
		"enrol", "enrol.>", "$SYS.>", "$JS.>", "_INBOX.>", "_INBOX.collector.x",
	} {
		sub, err := nc.SubscribeSync(subject)
		r.must(err)
		r.must(nc.Flush())
		if err := receive(t, errs, "subscribe "+subject); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("subscribe %s: %v", subject, err)
		}
		_ = sub.Unsubscribe()
	}
	// A reply subject carries no message anywhere.
	for _, reply := range []string{"control.b2", "telemetry.b2", "ack.b2"} {
		r.must(nc.PublishRequest("telemetry.b1", reply, []byte("report")))
	}
	r.must(nc.Flush())
	r.must(r.Conn().Flush())
	for range 3 {
		if m := receive(t, everything, "telemetry"); m.Subject != "telemetry.b1" {
			t.Errorf("%q arrived on %s", m.Data, m.Subject)
		}
	}
	r.must(other.Flush())
	if len(everything)+len(otherAcks)+len(otherControls) > 0 {
		t.Errorf("%d, %d and %d further messages", len(everything), len(otherAcks), len(otherControls))
	}
}

func TestStrangersStayOutside(t *testing.T) {
	r := newRig(t, t.TempDir())
	_, _, pair := r.board("b1")
	public, _ := pair.PublicKey()
	stranger, _ := newKey(t)
	for name, o := range map[string][]nats.Option{
		"nobody":        nil,
		"unknown key":   {withKey(stranger)},
		"another's key": {nats.Nkey(public, stranger.Sign)},
		"other nonce":   {nats.Nkey(public, func([]byte) ([]byte, error) { return pair.Sign([]byte("nonce")) })},
		"no signature":  {nats.Nkey(public, func([]byte) ([]byte, error) { return nil, nil })},
		"wrong token":   {nats.Token("abc.def")},
		"user":          {nats.UserInfo("collector", "collector")},
	} {
		if nc, _, err := r.dial(o...); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: connection %v, error %v; want an authorization violation", name, nc != nil, err)
		}
	}
	if got := r.counted("bramble_broker_authentications_total", "bad_signature"); got != 3 {
		t.Errorf("%v bad signatures counted, want 3", got)
	}
	// Without TLS there is nothing to talk to.
	if _, err := nats.Connect(r.URL(), withKey(pair), nats.NoReconnect()); err == nil {
		t.Error("connected with a certificate that nobody vouches for")
	}
	c, err := net.Dial("tcp", strings.TrimPrefix(r.URL(), "nats://"))
	r.must(err)
	defer c.Close()
	_, err = c.Write([]byte("CONNECT {\"verbose\":false}\r\nPING\r\n"))
	r.must(err)
	r.must(c.SetReadDeadline(time.Now().Add(10 * time.Second)))
	var text bytes.Buffer
	_, _ = text.ReadFrom(c) // the server hangs up, with or without a reset
	if strings.Contains(text.String(), "PONG") || !strings.Contains(text.String(), `"tls_required":true`) {
		t.Errorf("in clear text the server says %q", text.String())
	}
}

func TestWrongPinIsRejected(t *testing.T) {
	r := newRig(t, t.TempDir())
	_, _, pair := r.board("b1")
	wrong, err := PinOf(t.TempDir())
	r.must(err)
	_, err = nats.Connect(r.URL(), withKey(pair), pinned(wrong), nats.NoReconnect())
	if !errors.Is(err, report.ErrPin) {
		t.Errorf("error %v, want ErrPin", err)
	}
}

func TestCertificateNamesTheServer(t *testing.T) {
	r := newRig(t, t.TempDir())
	ca, err := os.ReadFile(filepath.Join(r.dir, "ca.crt"))
	r.must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	_, _, pair := r.board("b1")
	for _, host := range []string{"127.0.0.1", "localhost"} {
		nc, err := nats.Connect(r.URL(), withKey(pair), nats.Secure(&tls.Config{RootCAs: roots, ServerName: host}))
		r.must(err)
		nc.Close()
	}
	for _, f := range []string{"ca.crt", "ca.key"} {
		if info, err := os.Stat(filepath.Join(r.dir, f)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", f, info.Mode(), err)
		}
	}
}

func TestRevocationCutsTheConnectionAtOnce(t *testing.T) {
	r := newRig(t, t.TempDir())
	heard := r.subscribe(r.Conn(), report.AllTelemetry)
	nc, _, pair := r.board("b1")
	closed := nc.StatusChanged(nats.CLOSED)
	start := time.Now()
	r.must(r.registry.Revoke(t.Context(), "b1"))
	r.Disconnect("b1")
	receive(t, closed, "disconnection")
	t.Logf("revoked and cut in %v", time.Since(start)) // a connection that is not cut stays
	if _, _, err := r.dial(withKey(pair)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("came back with: %v", err)
	}
	if len(heard) != 0 {
		t.Error("telemetry out of nowhere")
	}
}

func TestNewestConnectionWins(t *testing.T) {
	r := newRig(t, t.TempDir())
	heard := r.subscribe(r.Conn(), report.AllTelemetry)
	first, _, pair := r.board("b1")
	closed := first.StatusChanged(nats.CLOSED)
	second, _, err := r.dial(withKey(pair))
	r.must(err)
	receive(t, closed, "end of the first connection")
	r.must(second.Publish("telemetry.b1", []byte("second")))
	r.must(second.Flush())
	if m := receive(t, heard, "telemetry"); string(m.Data) != "second" {
		t.Errorf("heard %q", m.Data)
	}
	if n := r.counted("bramble_broker_connections", ""); n != 1 {
		t.Errorf("%v connections", n)
	}
}

// enrol asks over the network as pisensor does.
func (r *rig) enrol(token report.Token, q report.EnrolRequest) (report.EnrolAnswer, error) {
	r.t.Helper()
	nc, _, err := r.dial(nats.Token(token.Credentials()))
	if err != nil {
		return report.EnrolAnswer{}, err
	}
	defer nc.Close()
	answers := r.subscribe(nc, report.EnrolInbox(token.ID))
	q.Token = token.Credentials()
	b, err := json.Marshal(q)
	r.must(err)
	r.must(nc.Publish(report.EnrolSubject, b))
	return report.DecodeEnrolAnswer(receive(r.t, answers, "enrolment's answer").Data)
}

func TestEnrolment(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir)
	r.must(r.registry.AddBoard(t.Context(), "b1", nil))
	token, err := r.registry.NewBoardToken(t.Context(), "b1", r.Pin())
	r.must(err)
	pair, public := newKey(t)
	_, other := newKey(t)
	for range 2 { // asking again changes nothing
		answer, err := r.enrol(token, report.EnrolRequest{Key: public, Name: "something-else"})
		if err != nil || answer != (report.EnrolAnswer{Key: public, Board: "b1"}) {
			t.Errorf("answer %+v, %v", answer, err)
		}
	}
	rack, err := r.registry.NewRackToken(t.Context(), "r1", nil, 1, r.Pin())
	r.must(err)
	answer, err := r.enrol(rack, report.EnrolRequest{Key: other, Name: "b1"})
	if err != nil || answer != (report.EnrolAnswer{Key: other, Board: "r1-01"}) {
		t.Errorf("a rack's token for a known board: answer %+v, %v", answer, err)
	}
	bad := token
	bad.Secret = strings.Repeat("0", len(token.Secret))
	if _, err := r.enrol(bad, report.EnrolRequest{Key: other}); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("wrong secret: %v", err)
	}
	nc, _, err := r.dial(withKey(pair))
	r.must(err)
	r.must(nc.Publish("telemetry.b1", nil))
	nc.Close()
	for result, want := range map[string]float64{"enrolled": 2, "repeated": 1} {
		if got := r.counted("bramble_enrolments_total", result); got != want {
			t.Errorf("%v enrolments %s, want %v", got, result, want)
		}
	}
	pin := r.Pin()
	r.must(r.Close())
	r = newRig(t, dir)
	if r.Pin() != pin {
		t.Error("another CA after a restart")
	}
	if _, _, err := r.dial(withKey(pair)); err != nil {
		t.Errorf("the key after a restart: %v", err)
	}
}

// A board whose OS was installed anew comes back with its token and a new key.
func TestEnrolmentWithANewKeyCutsTheOldOne(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.must(r.registry.AddBoard(t.Context(), "b1", nil))
	token, err := r.registry.NewBoardToken(t.Context(), "b1", r.Pin())
	r.must(err)
	old, before := newKey(t)
	_, err = r.enrol(token, report.EnrolRequest{Key: before})
	r.must(err)
	nc, _, err := r.dial(withKey(old))
	r.must(err)
	closed := nc.StatusChanged(nats.CLOSED)
	pair, public := newKey(t)
	answer, err := r.enrol(token, report.EnrolRequest{Key: public})
	if err != nil || answer != (report.EnrolAnswer{Key: public, Board: "b1"}) {
		t.Errorf("answer %+v, %v", answer, err)
	}
	receive(t, closed, "end of the old key's connection")
	if _, _, err := r.dial(withKey(old)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("the old key: %v", err)
	}
	if _, _, err := r.dial(withKey(pair)); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if got := r.counted("bramble_enrolments_total", "replaced"); got != 1 {
		t.Errorf("%v keys replaced, want 1", got)
	}
	r.must(r.Close())
	log := r.log.String()
	for _, want := range []string{"level=WARN", "board has another key", before, public} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	if strings.Contains(log, token.Secret) {
		t.Error("the log shows the token's secret")
	}
}

func TestEnrolmentConnectionCanDoNothingElse(t *testing.T) {
	r := newRig(t, t.TempDir())
	everything := r.subscribe(r.Conn(), ">")
	token, err := r.registry.NewRackToken(t.Context(), "r1", nil, 1, r.Pin())
	r.must(err)
	other, err := r.registry.NewRackToken(t.Context(), "r2", nil, 1, r.Pin())
	r.must(err)
	nc, errs, err := r.dial(nats.Token(token.Credentials()))
	r.must(err)
	for _, subject := range []string{"telemetry.b1", "ack.b1", "control.b1", "enrol." + token.ID, "enrol.x", "$SYS.x"} {
		r.must(nc.Publish(subject, nil))
		r.must(nc.Flush())
		if err := receive(t, errs, "publish "+subject); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("publish %s: %v", subject, err)
		}
	}
	for _, subject := range []string{"enrol", "enrol.*", "enrol." + other.ID, report.EnrolAnswerSubject(token.ID, "*"), report.EnrolInbox(token.ID) + ".>", "telemetry.*", ">"} {
		_, err := nc.SubscribeSync(subject)
		r.must(err)
		r.must(nc.Flush())
		if err := receive(t, errs, "subscribe "+subject); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("subscribe %s: %v", subject, err)
		}
	}
	// Requests that name no valid token have nobody who could be answered.
	_, public := newKey(t)
	for _, q := range []report.EnrolRequest{{Token: token.ID, Key: public}, {Token: other.ID + "." + token.Secret, Key: public}, {Key: public}} {
		b, err := json.Marshal(q)
		r.must(err)
		r.must(nc.PublishRequest(report.EnrolSubject, "control.b1", b))
	}
	r.must(nc.Publish(report.EnrolSubject, []byte("{")))
	r.must(nc.Flush())
	for range 4 {
		if m := receive(t, everything, "request"); m.Subject != report.EnrolSubject {
			t.Errorf("a message on %s", m.Subject)
		}
	}
	// A good request behind the bad ones: when it is answered, they are done with.
	if _, err := r.enrol(token, report.EnrolRequest{Key: public}); err != nil {
		t.Fatal(err)
	}
	receive(t, everything, "good request")
	if m := receive(t, everything, "answer"); m.Subject != report.EnrolAnswerSubject(token.ID, public) || m.Reply != "" {
		t.Errorf("answer on %s", m.Subject)
	}
	if got := r.counted("bramble_enrolments_total", "unknown_token"); got != 3 {
		t.Errorf("%v requests without a token counted, want 3", got)
	}
	if len(r.registry.Boards()) != 1 || len(everything) != 0 {
		t.Errorf("%d boards, %d further messages", len(r.registry.Boards()), len(everything))
	}
}

// asking is a connection of a token's holder that hears what comes for it.
func (r *rig) asking(token report.Token) (nc *nats.Conn, errs chan error, heard chan *nats.Msg) {
	r.t.Helper()
	nc, errs, err := r.dial(nats.Token(token.Credentials()))
	r.must(err)
	return nc, errs, r.subscribe(nc, report.EnrolInbox(token.ID))
}

func (r *rig) ask(nc *nats.Conn, q report.EnrolRequest) {
	r.t.Helper()
	b, err := json.Marshal(q)
	r.must(err)
	r.must(nc.Publish(report.EnrolSubject, b))
	r.must(nc.Flush())
}

// Holders of one token hear the answers for the key that they have asked for, and no other.
func TestHoldersOfOneTokenDoNotHearEachOther(t *testing.T) {
	for _, door := range []func(*rig) string{(*rig).nats, (*rig).wss} {
		r := newRig(t, t.TempDir())
		r.at = door(r)
		token, err := r.registry.NewRackToken(t.Context(), "r1", nil, 3, r.Pin())
		r.must(err)
		spy, _, all := r.asking(token)
		first, errs, heard := r.asking(token)
		second, _, other := r.asking(token)
		_, a := newKey(t)
		_, b := newKey(t)
		for range 2 { // asking again is heard, too
			r.ask(first, report.EnrolRequest{Token: token.Credentials(), Key: a})
			r.ask(second, report.EnrolRequest{Token: token.Credentials(), Key: b})
			for key, answers := range map[string]chan *nats.Msg{a: heard, b: other} {
				m := receive(t, answers, "answer")
				if answer, err := report.DecodeEnrolAnswer(m.Data); err != nil || answer.Key != key || m.Subject != report.EnrolInbox(token.ID) {
					t.Errorf("%s on %s, %v", m.Data, m.Subject, err)
				}
			}
		}
		r.ask(first, report.EnrolRequest{Token: token.Credentials(), Key: b})
		if err := receive(t, errs, "another key on this connection"); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Error(err)
		}
		for _, nc := range []*nats.Conn{spy, first, second} {
			r.must(nc.Flush()) // the answers were sent before its PONG
		}
		if len(all)+len(heard)+len(other) != 0 {
			t.Errorf("%d, %d and %d messages too many", len(all), len(heard), len(other))
		}
	}
}

func (r *rig) nats() string { return r.URL() }
func (r *rig) wss() string  { return r.WebSocketURL() }

// A connection that asks without end is no work for the registry.
func TestOneConnectionAsksAFewTimes(t *testing.T) {
	r := newRig(t, t.TempDir())
	token, err := r.registry.NewRackToken(t.Context(), "r1", nil, 1, r.Pin())
	r.must(err)
	nc, _, heard := r.asking(token)
	_, public := newKey(t)
	for range maxRequests + 10 {
		r.ask(nc, report.EnrolRequest{Token: token.Credentials(), Key: public})
	}
	for range maxRequests {
		receive(t, heard, "answer")
	}
	if got := r.counted("bramble_enrolments_total", "throttled"); got != 10 {
		t.Errorf("%v requests throttled, want 10", got)
	}
}

// A token's flood of connections is bounded, and another token's holder is served beside it.
func TestFloodOfOneTokenIsBounded(t *testing.T) {
	r := newRig(t, t.TempDir())
	token, err := r.registry.NewRackToken(t.Context(), "r1", nil, 1, r.Pin())
	r.must(err)
	q := report.EnrolRequest{Token: token.Credentials()}
	_, q.Key = newKey(t)
	text, err := json.Marshal(q)
	r.must(err)
	before := time.Now()
	const flood = enrolQueue
	for range 4 { // as if from many connections: behind the door
		for range flood / 4 {
			r.must(r.Conn().Publish(report.EnrolSubject, text))
		}
		r.must(r.Conn().Flush())
	}
	other, err := r.registry.NewRackToken(t.Context(), "r2", nil, 1, r.Pin())
	r.must(err)
	_, public := newKey(t)
	for answered := false; !answered; { // the queue may be full: a sensor asks again, too
		nc, _, heard := r.asking(other)
		r.ask(nc, report.EnrolRequest{Token: other.Credentials(), Key: public})
		select {
		case <-heard:
			answered = true
		case <-time.After(5 * time.Second):
		}
	}
	answered := r.counted("bramble_enrolments_total", "enrolled") + r.counted("bramble_enrolments_total", "repeated")
	if bound := enrolBurst + enrolRate*time.Since(before).Seconds() + 2; answered > bound {
		t.Errorf("%v requests answered, bound %v", answered, bound)
	}
}

func TestTokenGrantIsShortLived(t *testing.T) {
	r := newRig(t, t.TempDir())
	token, err := r.registry.NewRackToken(t.Context(), "r1", nil, 1, r.Pin())
	r.must(err)
	g, err := authorize(credentials{token: token.Credentials()}, r.registry)
	if err != nil || g.role != "enrolment" || r.gate.enrol != 30*time.Second {
		t.Errorf("grant %+v for %v, %v", g, r.gate.enrol, err)
	}
}

func TestOversizedMessageEndsTheConnection(t *testing.T) {
	r := newRig(t, t.TempDir())
	heard := r.subscribe(r.Conn(), report.AllTelemetry)
	nc, _, pair := r.board("b1")
	r.must(nc.Publish("telemetry.b1", make([]byte, 256<<10)))
	r.must(nc.Flush())
	if m := receive(t, heard, "largest message"); len(m.Data) != 256<<10 {
		t.Errorf("%d bytes", len(m.Data))
	}
	// A library refuses to send more; a hostile client does not use one.
	raw := r.raw(pair)
	_, err := fmt.Fprintf(raw, "PUB telemetry.b1 %d\r\n", 256<<10+1)
	r.must(err)
	text, err := io.ReadAll(raw)
	if !strings.Contains(string(text), "Maximum Payload Violation") {
		t.Errorf("the server says %q, %v", text, err)
	}
	if len(heard) != 0 {
		t.Error("the oversized message arrived")
	}
}

// raw is a board's connection without a library, just after its CONNECT.
func (r *rig) raw(pair nkeys.KeyPair) *tls.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(r.URL(), "nats://"))
	r.must(err)
	r.t.Cleanup(func() { c.Close() })
	r.must(c.SetDeadline(time.Now().Add(10 * time.Second)))
	line, err := bufio.NewReader(c).ReadString('\n')
	r.must(err)
	var info struct{ Nonce string }
	r.must(json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info))
	signature, err := pair.Sign([]byte(info.Nonce))
	r.must(err)
	public, err := pair.PublicKey()
	r.must(err)
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	_, err = fmt.Fprintf(secure, "CONNECT {\"verbose\":false,\"nkey\":%q,\"sig\":%q}\r\n", public, base64.RawURLEncoding.EncodeToString(signature))
	r.must(err)
	return secure
}

// A second CONNECT, which no library sends, is judged like the first.
func TestSecondConnectIsJudgedLikeTheFirst(t *testing.T) {
	r := newRig(t, t.TempDir())
	_, _, pair := r.board("b1")
	raw := r.raw(pair)
	_, stranger := newKey(t)
	_, err := fmt.Fprintf(raw, "CONNECT {\"nkey\":%q}\r\nSUB ack.b1 2\r\nPING\r\n", stranger)
	r.must(err)
	text, err := io.ReadAll(raw)
	if string(text) != "-ERR 'Authorization Violation'\r\n" || err != nil {
		t.Errorf("the server says %q, %v", text, err)
	}
}

func TestEnrolmentConnectionIsCutOff(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir())
	r.gate.enrol = 3 * time.Second
	token, err := r.registry.NewRackToken(t.Context(), "r1", nil, 1, r.Pin())
	r.must(err)
	nc, _, err := r.dial(nats.Token(token.Credentials()))
	r.must(err)
	closed := nc.StatusChanged(nats.CLOSED)
	select {
	case <-closed:
	case <-time.After(patience):
		t.Error("still connected")
	}
}

func TestTakenPortAndBadAddressNameTheNextStep(t *testing.T) {
	r := newRig(t, t.TempDir())
	for addr, words := range map[string][]string{
		strings.TrimPrefix(r.URL(), "nats://"): {"address already in use", "--nats ADDR"},
		"4222":                                 {`"4222"`, "--nats ADDR"},
		"127.0.0.1:nats":                       {"nats", "--nats ADDR"},
		"127.0.0.1:70000":                      {"70000", "--nats ADDR"},
		"192.0.2.1:4222":                       {"192.0.2.1", "--nats ADDR"},
	} {
		_, err := New(Options{Addr: addr, Dir: t.TempDir(), Registry: r.registry})
		if err == nil {
			t.Errorf("%s: started", addr)
			continue
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: error %q lacks %q", addr, err, w)
			}
		}
	}
}

func TestLostKeyIsNotReplacedSilently(t *testing.T) {
	dir := t.TempDir()
	pin, err := PinOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	if again, err := PinOf(dir); err != nil || again != pin {
		t.Errorf("with the key alone: pin %q, %v; want %q", again, err, pin)
	}
	if err := os.Remove(filepath.Join(dir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := PinOf(dir); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Errorf("without the key: %v", err)
	}
}

func TestLogIsLimited(t *testing.T) {
	var lines atomic.Int64
	count, metrics := newMetrics(), prometheus.NewRegistry()
	metrics.MustRegister(count.suppressed)
	l := newServerLog(newLimitedLog(slog.New(slog.NewTextHandler(counter{&lines}, nil)), count))
	for range 1000 {
		l.Errorf("violation %d", 1)
	}
	if got := float64(lines.Load()) + value(t, metrics, "bramble_broker_suppressed_log_lines_total", ""); got != 1000 || lines.Load() > 50 {
		t.Errorf("%d lines logged, %v lines in all", lines.Load(), got)
	}
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(b []byte) (int, error) { c.n.Add(1); return len(b), nil }

func FuzzAuthorize(f *testing.F) {
	db, err := registry.OpenDB(filepath.Join(f.TempDir(), "state.db"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { db.Close() })
	known, err := registry.Open(f.Context(), db)
	if err != nil {
		f.Fatal(err)
	}
	token, err := known.NewRackToken(f.Context(), "r1", nil, 1, "pin")
	if err != nil {
		f.Fatal(err)
	}
	pair, _ := nkeys.CreateUser()
	public, _ := pair.PublicKey()
	if _, err := known.Enrol(f.Context(), report.EnrolRequest{Token: token.Credentials(), Key: public}); err != nil {
		f.Fatal(err)
	}
	f.Add(public, "c2ln", []byte("nonce"), "")
	f.Add("", "", []byte{}, token.ID+".")
	f.Fuzz(func(t *testing.T, nkey, signature string, nonce []byte, credential string) {
		c := credentials{nkey: nkey, signature: signature, nonce: nonce, token: credential}
		if g, err := authorize(c, known); err == nil {
			t.Fatalf("%+v got %+v", c, g)
		}
	})
}

// One key that connects several times at once: each newer connection cuts an older one that may
// still be at the gate. The last one gets in.
func TestOneKeyThatConnectsManyTimesAtOnce(t *testing.T) {
	f := func(t *testing.T, r *rig) {
		_, _, pair := r.board("b1")
		var clients sync.WaitGroup
		for range 20 {
			clients.Go(func() {
				for range 6 {
					if nc, err := nats.Connect(r.at, pinned(r.Pin()), nats.NoReconnect(), nats.Timeout(patience), withKey(pair)); err == nil {
						nc.Close()
					}
				}
			})
		}
		clients.Wait()
		nc, _, err := r.dial(withKey(pair))
		r.must(err)
		r.must(nc.Flush())
		if n := r.counted("bramble_broker_panics_total", ""); n != 0 {
			t.Errorf("%v panics", n)
		}
	}
	t.Run("nats", func(t *testing.T) { f(t, newRig(t, t.TempDir())) })
	t.Run("wss", func(t *testing.T) {
		r := newRig(t, t.TempDir())
		r.at = r.WebSocketURL()
		f(t, r)
	})
}

// broken looks up no key without a panic but one.
type broken struct {
	identities
	good string
}

func (b broken) BoardOfKey(key string) (*registry.Board, bool) {
	if key != b.good {
		panic("a fault")
	}
	return b.identities.BoardOfKey(key)
}

func TestPanicAtTheGateEndsOneConnection(t *testing.T) {
	r := newRig(t, t.TempDir())
	nc, _, pair := r.board("b1")
	good, err := pair.PublicKey()
	r.must(err)
	r.gate.known = broken{r.registry, good}
	for i := range 2 * logBurst {
		r.at = []string{r.URL(), r.WebSocketURL()}[i%2]
		stranger, _ := newKey(t)
		if _, _, err := r.dial(withKey(stranger)); err == nil {
			t.Fatal("let in")
		}
	}
	if n := r.counted("bramble_broker_panics_total", ""); n != 2*logBurst {
		t.Errorf("%v panics counted, want %d", n, 2*logBurst)
	}
	r.must(nc.Flush())
	if _, _, err := r.dial(withKey(pair)); err != nil {
		t.Error(err)
	}
	r.must(r.Close())
	if n := strings.Count(r.log.String(), "fault in the collector"); n < 1 || n > logBurst+1 || !strings.Contains(r.log.String(), "gate.go") {
		t.Errorf("%d lines of it in the log:\n%s", n, r.log)
	}
}
