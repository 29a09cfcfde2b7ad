package broker

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// A client may begin with TLS, so that it passes a proxy that sorts by names; one that waits is greeted in plain, as ever. Both are
// told the same, which names no version and no address.
func TestTLSFirst(t *testing.T) {
	r := newRig(t, t.TempDir())
	r.must(r.registry.AddBoard(t.Context(), "pi-1", nil))
	pair := r.key("pi-1")
	for name, options := range map[string][]nats.Option{"tls first": {nats.TLSHandshakeFirst()}, "greeting first": nil} {
		nc, err := nats.Connect(r.at, append(options, withKey(pair), pinned(r.Pin()))...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		sub, err := nc.SubscribeSync("ack.pi-1")
		r.must(err)
		r.must(nc.Flush())
		r.must(r.Conn().Publish("ack.pi-1", []byte("taken")))
		if m, err := sub.NextMsg(patience); err != nil || string(m.Data) != "taken" {
			t.Errorf("%s: %v, %v", name, m, err)
		}
		if nc.ConnectedServerVersion() != "" || len(nc.DiscoveredServers()) > 0 {
			t.Errorf("%s: told version %q and servers %v", name, nc.ConnectedServerVersion(), nc.DiscoveredServers())
		}
		nc.Close()
	}

	began := time.Now()
	c, err := net.Dial("tcp", strings.TrimPrefix(r.URL(), "nats://"))
	r.must(err)
	defer c.Close()
	r.must(c.SetDeadline(began.Add(patience)))
	piece := make([]byte, 512)
	n, err := c.Read(piece)
	r.must(err)
	text, ok := strings.CutPrefix(string(piece[:n]), "INFO ")
	var told map[string]any
	if !ok || json.Unmarshal([]byte(text), &told) != nil || told["version"] != "" || told["host"] != nil || told["port"] != nil || told["connect_urls"] != nil {
		t.Errorf("a stranger is told %q", piece[:n])
	}
}

// TLS 1.3 and the suites of 1.2 that authenticate what they encrypt are taken; older versions and CBC are not.
func TestOnlyAuthenticatedCiphers(t *testing.T) {
	r := newRig(t, t.TempDir())
	f := func(door string, version uint16, suites []uint16, want bool) {
		t.Helper()
		c, err := tls.Dial("tcp", door, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, CipherSuites: suites})
		if err == nil {
			c.Close()
		}
		if (err == nil) != want {
			t.Errorf("%s, %s, %v: %v, want taken: %v", door, tls.VersionName(version), suites, err, want)
		}
	}
	for _, door := range []string{strings.TrimPrefix(r.URL(), "nats://"), strings.TrimPrefix(r.WebSocketURL(), "wss://")} {
		f(door, tls.VersionTLS13, nil, true)
		f(door, tls.VersionTLS12, authenticated, true)
		f(door, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}, false)
		f(door, tls.VersionTLS11, nil, false)
	}
}
