package broker

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"bramble/pisensor/report"
)

func TestBoardOverWebSocket(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			if l, err := net.Listen("tcp", addr); err != nil {
				t.Skipf("this machine has no such address: %v", err)
			} else {
				l.Close()
			}
			r := newRigAt(t, t.TempDir(), addr)
			r.at = r.WebSocketURL()
			heard := r.subscribe(r.Conn(), report.AllTelemetry)
			nc, errs, pair := r.board("b1")
			acks := r.subscribe(nc, "ack.b1")
			payload := make([]byte, maxPayload)
			r.must(nc.Publish("telemetry.b1", payload))
			r.must(nc.Flush())
			if m := receive(t, heard, "telemetry"); m.Subject != "telemetry.b1" || len(m.Data) != maxPayload {
				t.Errorf("heard %d bytes on %s", len(m.Data), m.Subject)
			}
			r.must(r.Conn().Publish("ack.b1", []byte("ack")))
			receive(t, acks, "ack")
			for _, subject := range []string{"telemetry.b2", "ack.b1", "enrol", "$SYS.x"} {
				r.must(nc.Publish(subject, nil))
				r.must(nc.Flush())
				if err := receive(t, errs, "publish "+subject); !errors.Is(err, nats.ErrPermissionViolation) {
					t.Errorf("publish %s: %v", subject, err)
				}
			}
			if got := r.counted("bramble_broker_connections", ""); got != 1 {
				t.Errorf("%v connections counted", got)
			}
			closed := nc.StatusChanged(nats.CLOSED)
			r.must(r.registry.Revoke(t.Context(), "b1"))
			r.Disconnect("b1")
			receive(t, closed, "disconnection")
			if _, _, err := r.dial(withKey(pair)); err == nil || r.counted("bramble_broker_authentications_total", "unknown_key") != 1 {
				t.Errorf("came back with: %v", err)
			}
			if _, _, err := r.dial(withKey(pair), pinned(report.NewToken("x").Pin)); !errors.Is(err, report.ErrPin) {
				t.Errorf("wrong pin: %v", err)
			}
		})
	}
}

func TestEnrolmentOverWebSocket(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.at = r.WebSocketURL()
	token, err := r.registry.NewRackToken(t.Context(), "r1", nil, 1, r.Pin())
	r.must(err)
	_, public := newKey(t)
	if a, err := r.enrol(token, report.EnrolRequest{Key: public, Name: "r1-01"}); err != nil || a.Board != "r1-01" {
		t.Errorf("answer %+v, %v", a, err)
	}
}

func TestTakenWebSocketPortNamesTheNextStep(t *testing.T) {
	r := newRig(t, t.TempDir())
	for addr, word := range map[string]string{strings.TrimPrefix(r.WebSocketURL(), "wss://"): "address already in use", "443": `"443"`} {
		_, err := New(Options{Addr: "127.0.0.1:0", WebSocket: addr, Dir: t.TempDir(), Registry: r.registry})
		if err == nil || !strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), "nats_websocket") {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// One key has one connection, whichever way it comes.
func TestNewestConnectionWinsAcrossListeners(t *testing.T) {
	r := newRig(t, t.TempDir())
	live, _, pair := r.board("b1")
	for _, url := range []string{r.WebSocketURL(), r.URL(), r.WebSocketURL()} {
		closed := live.StatusChanged(nats.CLOSED)
		var err error
		r.at = url
		live, _, err = r.dial(withKey(pair))
		r.must(err)
		receive(t, closed, "end of the connection before")
	}
	r.must(live.Publish("telemetry.b1", nil))
	r.must(live.Flush())
}

// A disk was cloned with its key: both machines get in, and the log says so.
func TestKeyAtTwoPlacesIsSaidOnce(t *testing.T) {
	r := newRig(t, t.TempDir())
	live, _, pair := r.board("b1")
	for i := range displacedMax + 3 {
		r.at = []string{r.WebSocketURL(), r.URL()}[i%2]
		closed := live.StatusChanged(nats.CLOSED)
		var err error
		live, _, err = r.dial(withKey(pair))
		r.must(err)
		receive(t, closed, "end of the connection before")
	}
	if got := r.counted("bramble_broker_displaced_connections_total", ""); got != displacedMax+3 {
		t.Errorf("%v displaced connections counted", got)
	}
	r.must(r.Close())
	if log := r.log.String(); strings.Count(log, "used at two places") != 1 || !strings.Contains(log, "board=b1 from=127.0.0.1:") {
		t.Errorf("the log:\n%s", log)
	}
}

// request sends a text to the websocket listener and returns all that comes back.
func (r *rig) request(secure bool, text string) string {
	r.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(r.WebSocketURL(), "wss://"))
	r.must(err)
	defer c.Close()
	r.must(c.SetDeadline(time.Now().Add(30 * time.Second)))
	if secure {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	_, err = io.WriteString(c, text)
	r.must(err)
	answer, err := io.ReadAll(c)
	if errors.Is(err, net.ErrClosed) || err != nil && strings.Contains(err.Error(), "timeout") {
		r.t.Errorf("%q hangs: %v", text, err)
	}
	return string(answer)
}

func TestNonsenseOverHTTPGetsAnError(t *testing.T) {
	r := newRig(t, t.TempDir())
	const upgrade = "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
	f := func(secure bool, text, want string) {
		t.Helper()
		if got := r.request(secure, text); !strings.HasPrefix(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	f(false, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.0 400")
	f(true, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400") // and ended, though it would be kept alive
	f(true, "POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 405")
	f(true, "SSH-2.0-OpenSSH_9.6\r\n\r\n", "HTTP/1.1 400")
	f(true, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 16<<10)+"\r\n\r\n", "HTTP/1.1 431")
	for _, path := range []string{"/mqtt", "/leafnode"} { // nats-server's other protocols
		f(true, "GET "+path+" HTTP/1.1\r\n"+upgrade, "HTTP/1.1 404")
	}
}

// Who opens a connection and says nothing, or a byte at a time, is gone after a
// while: at every stage of the handshakes.
func TestSlowHandshakesAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir())
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", strings.TrimPrefix(r.WebSocketURL(), "wss://"))
		r.must(err)
		t.Cleanup(func() { c.Close() })
		r.must(c.SetDeadline(time.Now().Add(30 * time.Second)))
		return c
	}
	secure := func() net.Conn {
		t.Helper()
		c := tls.Client(dial(), &tls.Config{InsecureSkipVerify: true})
		r.must(c.Handshake())
		return c
	}
	stages := map[string]net.Conn{"silent": dial(), "without a request": secure(), "amid a request": secure(), "without a login": secure()}
	_, err := io.WriteString(stages["amid a request"], "GET / HTTP/1.1\r\nHost: ")
	r.must(err)
	_, err = io.WriteString(stages["without a login"], "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	r.must(err)
	response, err := http.ReadResponse(bufio.NewReader(stages["without a login"]), nil)
	r.must(err)
	if response.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("upgrade: %s", response.Status)
	}
	begin, ended := time.Now(), make(chan string)
	for name, c := range stages {
		go func() {
			_, err := io.ReadAll(c)
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				name += fmt.Sprintf(": still open after %v", time.Since(begin))
			}
			ended <- name
		}()
	}
	for range stages {
		if got := <-ended; strings.Contains(got, "still open") {
			t.Error(got)
		} else {
			t.Logf("%s: ended after %v", got, time.Since(begin))
		}
	}
}

// Frames without a payload count as bytes: a client that sends many does not get as far as its login.
func TestEmptyFramesCountAsBytes(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir())
	_, _, pair := r.board("b1")
	for _, empty := range []string{"\x82\x80\x00\x00\x00\x00", "\x89\x80\x00\x00\x00\x00"} { // a message, a ping
		if got := r.behindFrames(pair, empty, 1); got != "PONG" {
			t.Errorf("behind one frame: %q", got)
		}
		r.front.mu.Lock()
		r.front.login = 2 * time.Second
		r.front.mu.Unlock()
		if got := r.behindFrames(pair, empty, 4*strangerBurst/len(empty)); got == "PONG" {
			t.Error("a client is served behind so many frames that it may not send in the time")
		}
		r.front.mu.Lock()
		r.front.login = loginTime
		r.front.mu.Unlock()
	}
}

// behindFrames sends frames, and then a login and a ping. It returns the first word of the answer, or an error.
func (r *rig) behindFrames(pair nkeys.KeyPair, empty string, n int) string {
	r.t.Helper()
	c, _, err := (&websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}).Dial(r.WebSocketURL(), nil)
	r.must(err)
	defer c.Close()
	r.must(c.SetReadDeadline(time.Now().Add(patience)))
	_, info, err := c.ReadMessage()
	r.must(err)
	line, err := script{r: r, pair: pair}.connect(string(info), "key")
	r.must(err)
	if _, err := io.WriteString(c.NetConn(), strings.Repeat(empty, n)); err != nil {
		return err.Error()
	}
	if err := c.WriteMessage(websocket.BinaryMessage, []byte(strings.Replace(line, "{", "{\"verbose\":false,", 1)+"PING\r\n")); err != nil {
		return err.Error()
	}
	_, text, err := c.ReadMessage()
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text))
}
