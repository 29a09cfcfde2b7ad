package broker

import (
	"crypto/tls"
	"crypto/x509"
	"net"
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
