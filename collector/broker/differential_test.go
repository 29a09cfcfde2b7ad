package broker

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// natsServer starts nats-server with the permissions of board b1, whose key it is.
func natsServer(t *testing.T, config *tls.Config, pair nkeys.KeyPair) string {
	t.Helper()
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, NoSystemAccount: true, NoHeaderSupport: true,
		TLS: true, TLSConfig: config, TLSTimeout: 60, AuthTimeout: 60, MaxPayload: maxPayload, MaxSubs: maxSubs,
		Nkeys: []*server.NkeyUser{{Nkey: public, Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"telemetry.b1"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"ack.b1", "control.b1"}},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("nats-server is not ready")
	}
	return s.Addr().String()
}

// conversation sends steps to a server and returns all that it says behind its greeting. A step "<"
// waits for the answer to a PING. Where pieces is set, each byte is a TLS record of its own.
func conversation(t *testing.T, addr string, pair nkeys.KeyPair, pieces bool, steps []string) string {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c, err := net.Dial("tcp", addr)
	must(err)
	defer c.Close()
	must(c.SetDeadline(time.Now().Add(patience)))
	line, err := bufio.NewReader(c).ReadString('\n')
	must(err)
	var info struct{ Nonce string }
	must(json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info))
	signature, err := pair.Sign([]byte(info.Nonce))
	must(err)
	public, err := pair.PublicKey()
	must(err)
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	var said strings.Builder
	answers := bufio.NewReader(io.TeeReader(secure, &said))
	send := func(text string) bool {
		if !pieces || len(text) > 1000 {
			_, err := io.WriteString(secure, text)
			return err == nil
		}
		for _, b := range []byte(text) {
			if _, err := secure.Write([]byte{b}); err != nil {
				return false
			}
		}
		return true
	}
	pong := func() bool {
		if !send("PING\r\n") {
			return false
		}
		for {
			line, err := answers.ReadString('\n')
			if err != nil {
				return false
			}
			if line == "PONG\r\n" {
				return true
			}
		}
	}
	for _, step := range steps {
		step = strings.ReplaceAll(step, "LOGIN", fmt.Sprintf(`"nkey":%q,"sig":%q`, public, base64.RawURLEncoding.EncodeToString(signature)))
		switch {
		case step == "<":
			if !pong() {
				return said.String()
			}
		default:
			send(step) // where it fails, the answers say so
		}
	}
	if pong() {
		return said.String()
	}
	return said.String() + "(end)"
}

// The door answers as nats-server does, to all that a board may send and to the usual mistakes.
func TestTheDoorAnswersAsNATSServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir())
	_, _, pair := r.board("b1")
	addr := natsServer(t, r.front.tls, pair)
	const in = "CONNECT {LOGIN}\r\n"
	long := strings.Repeat("x", 5000)
	for _, steps := range [][]string{
		{in},
		{"CONNECT {LOGIN,\"verbose\":true}\r\n", "PUB telemetry.b1 2\r\nhi\r\nSUB ack.b1 1\r\nUNSUB 1\r\nPONG\r\n"},
		{"connect {LOGIN}\nsub ack.b1 1\npub telemetry.b1 0\n\r\npong\n"},
		{in, "SUB ack.b1 1\r\n", "<", "PUB\ttelemetry.b1  reply.x 3\r\nabc\r\n"},
		{in, "PUB telemetry.b2 2\r\nhi\r\nPUB ack.b1 0\r\n\r\n"},
		{in, "SUB > 1\r\nSUB ack.* 2\r\nSUB ack.b2 3\r\nSUB telemetry.b1 4\r\n"},
		{in, "UNSUB 7\r\nSUB ack.b1 7\r\nSUB ack.b1 7\r\nUNSUB 7\r\nUNSUB 7\r\n"},
		{in, strings.Repeat("SUB ack.b1 1\r\n", 3*maxSubs)},
		{in, subscriptions(maxSubs + 2)},
		{in, "PUB telemetry.b1 " + fmt.Sprint(maxPayload) + "\r\n" + strings.Repeat("x", maxPayload) + "\r\n"},
		{in, "PUB telemetry.b1 " + fmt.Sprint(maxPayload+1) + "\r\n"},
		{in, "G\r\n"}, {in, "\r\n"}, {in, "MSG a 1 1\r\nx\r\n"}, {in, "RMSG $G a 1\r\nx\r\n"}, {in, "PUBX a 1\r\nx\r\n"},
		{in, "PUB telemetry.b1 1\r\nxx\r\n"}, {in, "SUB " + long + " 1\r\n"},
		{"PING\r\n"}, {"SUB ack.b1 1\r\n"}, {"GET / HTTP/1.1\r\n\r\n"}, {"CONNECT {}\r\n"}, {"CONNECT {\"user\":\"collector\"}\r\n"},
		{"CONNECT {\"auth_token\":\"a.b\"}\r\n"}, {"CONNECT {LOGIN,\"no_responders\":true}\r\n"},
	} {
		whole := ""
		for _, pieces := range []bool{false, true} {
			got, want := conversation(t, strings.TrimPrefix(r.URL(), "nats://"), pair, pieces, steps), ""
			for range 5 { // nats-server may reset a connection before its last words are read
				if want = conversation(t, addr, pair, pieces, steps); want == got {
					break
				}
			}
			if want == "(end)" && got == whole {
				want = got // it was reset each time, by a piece that came behind its last words
			}
			whole = got
			if got != want {
				t.Errorf("%.200q (in pieces: %v):\nthe door says    %.400q\nnats-server says %.400q", steps, pieces, got, want)
			}
		}
	}
}

func subscriptions(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "SUB ack.b1 %d\r\n", i)
	}
	return b.String()
}
