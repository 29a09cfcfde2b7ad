package broker

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"bramble/pisensor/report"
)

// script holds the bytes that hostile clients send at one of the stages of a connection.
type script struct {
	r     *rig
	pair  nkeys.KeyPair // of a board
	token string        // of an enrolment
	bytes []byte
}

// doorTime bounds how long a client waits for the rest of an answer.
const doorTime = 100 * time.Millisecond

// ways are the stages: as a stranger and logged in, by both doors. Their errors say that the client was cut off.
var ways = []func(s script) error{
	func(s script) error { // before TLS
		c, err := s.tcp()
		if err != nil {
			return err
		}
		return s.say(c, c)
	},
	func(s script) error { // instead of TLS, by the other door
		c, err := net.DialTimeout("tcp", strings.TrimPrefix(s.r.WebSocketURL(), "wss://"), doorTime)
		if err != nil {
			return err
		}
		return s.say(c, c)
	},
	func(s script) error { return s.loggedIn("") },                                      // instead of CONNECT
	func(s script) error { return s.loggedIn(fmt.Sprintf(`"auth_token":%q`, s.token)) }, // for an enrolment
	func(s script) error { return s.loggedIn("key") },                                   // as a board
	func(s script) error { // in the place of an upgrade
		c, err := tls.Dial("tcp", strings.TrimPrefix(s.r.WebSocketURL(), "wss://"), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return err
		}
		return s.say(c, c)
	},
	func(s script) error { return s.upgraded(false) }, // in the place of frames, of the same board
	func(s script) error { return s.upgraded(true) },  // in frames, of the same board
}

func (s script) tcp() (net.Conn, error) {
	return net.DialTimeout("tcp", strings.TrimPrefix(s.r.URL(), "nats://"), doorTime)
}

// say sends the script and reads the answer.
func (s script) say(w io.Writer, c net.Conn) error {
	defer c.Close()
	if _, err := w.Write(s.bytes); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(doorTime)); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c)
	return err
}

// connect is the line with which a client logs in: by the board's key, or by fields of its JSON.
func (s script) connect(info, credential string) (string, error) {
	if credential != "key" {
		return "CONNECT {" + credential + "}\r\n", nil
	}
	var v struct{ Nonce string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(strings.TrimSpace(info), "INFO ")), &v); err != nil {
		return "", err
	}
	signature, err := s.pair.Sign([]byte(v.Nonce))
	if err != nil {
		return "", err
	}
	public, err := s.pair.PublicKey()
	return fmt.Sprintf("CONNECT {\"nkey\":%q,\"sig\":%q}\r\n", public, base64.RawURLEncoding.EncodeToString(signature)), err
}

// loggedIn sends the script behind a login, or in its place where there is no credential.
func (s script) loggedIn(credential string) error {
	c, err := s.tcp()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	info := make([]byte, 4096)
	n, err := c.Read(info)
	if err != nil {
		return err
	}
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	if credential != "" {
		line, err := s.connect(string(info[:n]), credential)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(secure, line); err != nil {
			return err
		}
	}
	return s.say(secure, secure)
}

// upgraded sends the script behind a board's login over a websocket.
func (s script) upgraded(framed bool) error {
	c, err := tls.Dial("tcp", strings.TrimPrefix(s.r.WebSocketURL(), "wss://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"); err != nil {
		return err
	}
	in := bufio.NewReader(c)
	if _, err := http.ReadResponse(in, nil); err != nil {
		return err
	}
	var head [4]byte // of a frame of some hundred bytes
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return err
	}
	info := make([]byte, binary.BigEndian.Uint16(head[2:]))
	if _, err := io.ReadFull(in, info); err != nil {
		return err
	}
	line, err := s.connect(string(info), "key")
	if err != nil {
		return err
	}
	if _, err := c.Write(frame([]byte(line))); err != nil {
		return err
	}
	if framed {
		s.bytes = frame(s.bytes)
	}
	return s.say(c, c)
}

// frame is a binary message of a websocket's client, masked by zeros.
func frame(data []byte) []byte {
	head := binary.BigEndian.AppendUint64([]byte{0x82, 0xff}, uint64(len(data)))
	return slices.Concat(head, make([]byte, 4), data)
}

// FuzzDoor sends any bytes at any stage, by both doors and many at once with one key: the process stays, nothing panics, and
// a board is served.
func FuzzDoor(f *testing.F) {
	r := newRig(f, f.TempDir())
	r.must(r.registry.AddBoard(f.Context(), "hostile", nil))
	token, err := r.registry.NewRackToken(f.Context(), "r1", nil, 1, r.Pin())
	r.must(err)
	s := script{r: r, pair: r.key("hostile"), token: token.Credentials()}
	honest, _, _ := r.board("b1")
	heard := r.subscribe(r.Conn(), "telemetry.b1")
	for _, text := range []string{
		"", "PING\r\n", "PUB telemetry.hostile 5\r\nhello\r\n", "PUB telemetry.hostile 262145\r\n", "PUB telemetry.b1 -1\r\n\r\n",
		"HPUB telemetry.hostile 12 14\r\nNATS/1.0\r\n\r\nxx\r\n", "SUB ack.hostile 1\r\nUNSUB 1 99999999999999999999\r\n", "SUB > q 1\r\n",
		"CONNECT {\"user\":\"collector\"}\r\nPUB enrol reply 2\r\n{}\r\n", "CONNECT {\r\n", "INFO {}\r\n", "RMSG $G a 1\r\nx\r\n", "MSG a 1 1\r\nx\r\n",
		"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nPING\r\n", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00",
		"\x88\x80\x00\x00\x00\x00", "\x89\xfe\x00\xff", "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s := s
		s.bytes = text
		var clients sync.WaitGroup
		for _, way := range ways {
			clients.Go(func() { _ = way(s) }) // most are cut off, as they should be
		}
		clients.Wait()
		if err := honest.Publish("telemetry.b1", nil); err != nil {
			t.Fatal(err)
		}
		receive(t, heard, "telemetry of a board beside them")
		if n := value(t, r.metrics, "bramble_broker_panics_total", ""); n != 0 {
			t.Errorf("%v panics", n)
		}
	})
}

// No bytes that come as an enrolment make the registrar panic.
func FuzzEnrolment(f *testing.F) {
	r := newRig(f, f.TempDir())
	token, err := r.registry.NewRackToken(f.Context(), "r1", nil, 1, r.Pin())
	r.must(err)
	count := newMetrics()
	log := slog.New(slog.DiscardHandler)
	g := &registrar{registry: r.registry, nc: r.Conn(), count: count, panics: newPanics(count, log), log: log, expel: func(string) {},
		lines: rate.NewLimiter(logRate, logBurst), buckets: map[string]*rate.Limiter{}}
	_, public := newKey(f)
	for _, q := range []report.EnrolRequest{{}, {Token: token.Credentials(), Key: public, Name: "b1"}, {Token: token.Credentials(), Key: public, Name: "../b1"}, {Token: token.ID + ".x", Key: public}} {
		text, err := json.Marshal(q)
		r.must(err)
		f.Add(text)
	}
	f.Add([]byte(`{"token":"` + token.Credentials() + `","key":"U","name":null}`))
	panics := prometheus.NewRegistry()
	panics.MustRegister(count.panics)
	f.Fuzz(func(t *testing.T, data []byte) {
		g.answer(t.Context(), data)
		if n := value(t, panics, "bramble_broker_panics_total", ""); n != 0 {
			t.Errorf("%v panics", n)
		}
	})
}
