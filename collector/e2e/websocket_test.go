package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bramble/pisensor/report"
)

// withWebSocket returns a configuration with an address for boards that speak
// wss:// only, and that address.
func withWebSocket(t testing.TB, host string) (args []string, addr string) {
	t.Helper()
	addr = freeAddress(t, host)
	path := filepath.Join(t.TempDir(), "collector.yml")
	if err := os.WriteFile(path, fmt.Appendf(nil, "nats_websocket: %q\n", addr), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--config", path}, addr
}

// connected waits for a number of boards' connections.
func (s *server) connected(want float64) {
	s.t.Helper()
	eventually(s.t, patience, func() error {
		if got := s.metric("bramble_broker_connections"); got != want {
			return fmt.Errorf("%v connections, want %v", got, want)
		}
		return nil
	})
}

// TestWebSocket takes boards in over the port that every firewall lets through.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	args, addr := withWebSocket(t, "127.0.0.1")
	s := newServer(t, "127.0.0.1", args...)
	url := "wss://" + addr
	b := s.enrolAt(url, "pi-1", s.do("", "board", "add", "pi-1"))
	s.replayed(b, invent(t, "web", 50, uneven))

	p := launch(t, "pisensor", "run", "--state-dir", b.state, "--interval", "1s")
	p.says(t, p.errs, "connected to the collector")
	s.connected(1)
	s.kill() // the board comes back over the same way
	s.start()
	s.connected(1)
	s.do("", "board", "revoke", "pi-1")
	s.connected(0)
	p.says(t, p.errs, "does not accept this board's key")
	s.enrolAgain(b, url, s.do("", "board", "token", "pi-1"))
	s.connected(1)
	if code := p.stop(t, patience); code != 0 {
		t.Errorf("exit %d: %s", code, p.errs)
	}

	token, err := report.ParseToken(s.do("", "board", "token", "pi-1"))
	if err != nil {
		t.Fatal(err)
	}
	pin := token.Pin
	token.Pin = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	command(t, "", "pisensor", "enrol", url, token.String(), "--state-dir", t.TempDir()).refusal(t, "pin "+token.Pin, "it shows "+pin)
	command(t, "", "pisensor", "enrol", "ws://"+addr, token.String(), "--state-dir", t.TempDir()).refusal(t, "use wss://")
	token = report.NewToken(pin)
	for range 10 {
		command(t, "", "pisensor", "enrol", url, token.String(), "--state-dir", t.TempDir()).refusal(t, "does not accept this token")
	}
	s.answersBrowsers(addr)
}

// enrolAgain renews a board's enrolment while its daemon runs. The token comes
// in by standard input.
func (s *server) enrolAgain(b board, url, token string) {
	s.t.Helper()
	if a := command(s.t, token+"\n", "pisensor", "enrol", url, "--new-key", "--token-file", "-", "--state-dir", b.state); a.code != 0 || a.out != b.name+"\n" {
		s.t.Fatalf("enrol again: %+v", a)
	}
}

// answersBrowsers wants an error, and no hanging, for who is no board.
func (s *server) answersBrowsers(addr string) {
	s.t.Helper()
	browser := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for _, scheme := range []string{"http", "https"} {
		response, err := browser.Get(scheme + "://" + addr + "/login")
		if err != nil {
			s.t.Errorf("%s: %v", scheme, err)
			continue
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusBadRequest {
			s.t.Errorf("%s: %s %q, %v", scheme, response.Status, body, err)
		}
	}
}

// TestFloodOverWebSocket has a board's owner send all that goes through.
func TestFloodOverWebSocket(t *testing.T) {
	t.Parallel()
	args, addr := withWebSocket(t, "127.0.0.1")
	s := newServer(t, "127.0.0.1", args...)
	url := "wss://" + addr
	mine := s.enrolAt(url, "mine", s.do("", "board", "add", "mine"))
	victim := s.enrolAt(url, "victim", s.do("", "board", "add", "victim"))
	a, v := s.attackAt(url, mine), s.attackAt(url, victim)
	trickle := make([]byte, 32<<10)
	for range 128 { // 4 MiB: the burst, and half a minute beyond
		if err := a.Publish(report.TelemetrySubject("mine"), trickle); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.FlushTimeout(3 * time.Second); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("4 MiB went through in 3 s (%v)", err)
	}
	for i := range 10 {
		v.send(t, report.TelemetrySubject("victim"), warmReport(uint32(i+1), time.Now(), 44))
	}
	if err := a.FlushTimeout(3 * time.Second); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("the other board waited until the flood was through (%v)", err)
	}
}
