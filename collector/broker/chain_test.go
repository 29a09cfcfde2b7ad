package broker

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"bramble/pisensor/report"
)

// A collector that runs for years renews its certificate; the boards' pin, which
// no date counts for, is the same all the time.
func TestServerCertificateIsRenewedWithoutARestart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ca, err := openAuthority(dir)
		if err != nil {
			t.Fatal(err)
		}
		c, err := newChain(ca, []string{"collector.example"})
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca.cert)
		pin, seen := report.Pin(ca.cert), map[string]bool{}
		for range 40 {
			state := handshake(t, c, &tls.Config{RootCAs: roots, ServerName: "collector.example"}) // with dates
			seen[state.PeerCertificates[0].SerialNumber.String()] = true
			if left := time.Until(state.PeerCertificates[0].NotAfter); left < leafLifetime/2-time.Hour {
				t.Errorf("%v: the certificate ends in %v", time.Now(), left)
			}
			handshake(t, c, &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
				return report.VerifyPinned(s.PeerCertificates, pin)
			}})
			time.Sleep(leafLifetime / 20) // fake time: 10 years in all
		}
		if len(seen) < 3 || len(seen) > 6 {
			t.Errorf("%d certificates in 10 years", len(seen))
		}
	})
}

// handshake is one of a client with the server.
func handshake(t *testing.T, c *chain, config *tls.Config) tls.ConnectionState {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	done := make(chan error, 1)
	go func() { done <- tls.Server(far, &tls.Config{GetCertificate: c.get}).Handshake() }()
	client := tls.Client(near, config)
	if err := client.Handshake(); err != nil {
		t.Fatalf("%v: %v", time.Now(), err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return client.ConnectionState()
}

// A damaged or lost authority is said to be, and never replaced while boards are enrolled with it.
func TestDamagedAuthorityIsNamed(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir)
	r.board("b1")
	pin := r.Pin()
	r.must(r.Close())
	refused := func(what string, harmless bool) { // harmless: where the authority is the same
		t.Helper()
		b, err := New(Options{Addr: "127.0.0.1:0", Dir: dir, Registry: r.registry})
		if err == nil {
			b.Close()
			if harmless && b.Pin() == pin {
				return
			}
		}
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	whole := map[string][]byte{}
	for _, name := range []string{caKeyFile, caCertFile} {
		path := filepath.Join(dir, name)
		text, err := os.ReadFile(path)
		r.must(err)
		whole[path] = text
		for at := range text {
			damaged := bytes.Clone(text)
			damaged[at] ^= 1
			r.must(os.WriteFile(path, damaged, 0o600))
			refused(fmt.Sprintf("byte %d of %s", at, name), true)
		}
		r.must(os.WriteFile(path, nil, 0o600))
		refused("empty "+name, false)
		r.must(os.WriteFile(path, text, 0o600))
	}
	for path := range whole {
		r.must(os.Remove(path))
	}
	refused("both lost", false)
	for path, text := range whole {
		r.must(os.WriteFile(path, text, 0o600))
	}
	b, err := New(Options{Addr: "127.0.0.1:0", Dir: dir, Registry: r.registry})
	r.must(err)
	r.must(b.Close())
}
