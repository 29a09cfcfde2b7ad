package main

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"bramble/pisensor/identity"
	"bramble/pisensor/report"
)

// gateway passes connections on to a server and reports each.
func gateway(t *testing.T, target string) (addr string, tried <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	attempts := make(chan struct{}, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			attempts <- struct{}{}
			go pass(c, target)
		}
	}()
	return l.Addr().String(), attempts
}

func pass(c net.Conn, target string) {
	defer c.Close()
	s, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer s.Close()
	go func() { _, _ = io.Copy(s, c); s.Close() }()
	_, _ = io.Copy(c, s) // the end of either side ends both
}

// speaker answers each connection in its own way.
func speaker(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go talk(c)
		}
	}()
	return l.Addr().String()
}

// plainNATS is a NATS server without TLS.
func plainNATS(t *testing.T) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true, AlwaysEnableNonce: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("server is not ready")
	}
	return s.Addr().String()
}

func hostOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// believer is the state directory of a board that believes in a collector at
// an address.
func believer(t *testing.T, url, pin string) string {
	t.Helper()
	dir := t.TempDir()
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, identity.KeyFile), seed, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (identity.Enrolment{URL: url, Board: "pi-1", Pin: pin}).Save(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestTroubleIsSaidOnceAndAtOnce has boards meet everything but their collector: `run` logs the
// cause in one line and keeps trying, `enrol` ends.
func TestTroubleIsSaidOnceAndAtOnce(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	config, _ := certificates(t)
	_, pin := certificates(t)
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	ports := c.server.PortsInfo(time.Second)
	secureWeb, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	site := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = site.Serve(secureWeb) }()
	t.Cleanup(func() { site.Close() })
	cut := speaker(t, func(c net.Conn) { c.Close() })
	ssh := speaker(t, func(c net.Conn) {
		defer c.Close()
		_, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.6\r\n")
		_, _ = io.Copy(io.Discard, c)
	})
	amidTLS := speaker(t, func(c net.Conn) {
		defer c.Close()
		_, _ = io.WriteString(c, "INFO {\"server_id\":\"x\",\"nonce\":\"x\",\"tls_required\":true}\r\n")
		_, _ = c.Read(make([]byte, 1))
	})
	silent := speaker(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c); c.Close() })
	cases := []struct {
		name, scheme, target, pin string
		want                      []string
		slow                      bool // nothing comes back, so that there is a time-out
	}{
		{"wrong pin", "nats", hostOf(t, c.url), pin, []string{pin, c.pin, "ca.key", "enrol this board again"}, false},
		{"wrong pin, tls", "tls", hostOf(t, c.url), pin, []string{pin, c.pin, "ca.key"}, false},
		{"wrong pin, wss", "wss", hostOf(t, ports.WebSocket[0]), pin, []string{pin, c.pin, "ca.key"}, false},
		{"no TLS", "nats", plainNATS(t), c.pin, []string{"offers no TLS", "check the URL"}, false},
		{"no TLS, wss", "wss", hostOf(t, web.URL), c.pin, []string{"plain HTTP answers", "without TLS", "nats_websocket"}, false},
		{"NATS, wss", "wss", hostOf(t, c.url), c.pin, []string{"a NATS server answers", "use nats://"}, false},
		{"a web site", "wss", secureWeb.Addr().String(), c.pin, []string{"not the pinned collector", c.pin}, false},
		{"another service", "nats", ssh, c.pin, []string{"no collector", "port"}, false},
		{"a proxy that cuts", "nats", cut, c.pin, []string{"was cut"}, false},
		{"a proxy that cuts, wss", "wss", cut, c.pin, []string{"was cut"}, false},
		{"a proxy that cuts TLS", "nats", amidTLS, c.pin, []string{"was cut", "no TLS through"}, false},
		{"silence", "nats", silent, c.pin, []string{"in time", "firewall"}, true},
		{"silence, wss", "wss", silent, c.pin, []string{"in time", "firewall"}, true},
		{"websocket, nats", "nats", hostOf(t, ports.WebSocket[0]), c.pin, []string{"in time", "wss://"}, true},
	}
	met := make([]chan encounter, len(cases)) // all at once: they wait most of the time
	for i, x := range cases {
		met[i] = make(chan encounter, 1)
		addr, tried := gateway(t, x.target)
		address := x.scheme + "://" + addr
		dir := believer(t, address, x.pin)
		go func() { met[i] <- meet(t, address, dir, x.pin, tried) }()
	}
	for i, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			e := <-met[i]
			if e.runCode != 0 || strings.Count(e.log, "level=ERROR") != 1 {
				t.Errorf("run: exit %d, want 0, and one error in\n%s", e.runCode, e.log)
			}
			if !x.slow && strings.Contains(e.errs, "in time") { // nobody waits for a server that answers
				t.Errorf("enrol: %q after %v", e.errs, e.took)
			}
			if e.code != 1 || e.out != "" || strings.Count(e.errs, "\n") != 1 || strings.Contains(e.errs, e.token.Secret) {
				t.Errorf("enrol: exit %d, stdout %q, stderr %q", e.code, e.out, e.errs)
			}
			for _, w := range x.want {
				if !strings.Contains(e.log, w) || !strings.Contains(e.errs, w) {
					t.Errorf("%q is missing in the log or from enrol:\n%s%s", w, e.log, e.errs)
				}
			}
		})
	}
}

// encounter holds a board's output after it met a server.
type encounter struct {
	runCode, code  int
	log, out, errs string
	took           time.Duration // of the enrolment
	token          report.Token
}

// meet lets a board run until its third attempt begins, and then enrol.
func meet(t *testing.T, address, dir, pin string, tried <-chan struct{}) (e encounter) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var errs output
	finished := make(chan int)
	go func() {
		finished <- exitCode(run(ctx, append([]string{"run", "--state-dir", dir}, roots(dir)...), &errs, &errs), &errs)
	}()
	for n := range 3 {
		select {
		case <-tried:
		case <-time.After(patience):
			t.Errorf("%s: the board gave up after %d attempts: %s", address, n, errs.String())
		}
	}
	e.log = errs.String()
	cancel()
	e.runCode = <-finished
	e.token = report.NewToken(pin)
	begin := time.Now()
	e.code, e.out, e.errs = command(t, "enrol", address, e.token.String(), "--state-dir", dir)
	e.took = time.Since(begin)
	return e
}
