package report

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// issuer is a CA, or a certificate that poses as one.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func issue(t *testing.T, by *issuer, from, to time.Time, usage x509.ExtKeyUsage) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{usage}}
	if by == nil {
		form.IsCA, form.KeyUsage, form.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
		by = &issuer{form, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, form, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{cert, key}
}

// meet has a board, by its own clock, connect to a server.
func meet(t *testing.T, pin string, clock time.Time, leaf *issuer, chain ...*issuer) error {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	shown := tls.Certificate{PrivateKey: leaf.key, Certificate: [][]byte{leaf.cert.Raw}}
	for _, c := range chain {
		shown.Certificate = append(shown.Certificate, c.cert.Raw)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		_ = tls.Server(far, &tls.Config{Certificates: []tls.Certificate{shown}}).Handshake() // the client tells
	}()
	err := tls.Client(near, &tls.Config{
		InsecureSkipVerify: true, Time: func() time.Time { return clock },
		VerifyConnection: func(s tls.ConnectionState) error { return VerifyPinned(s.PeerCertificates, pin) },
	}).Handshake()
	near.Close()
	<-done
	return err
}

func TestPinHoldsAtAnyTime(t *testing.T) {
	now := time.Now()
	year := 365 * 24 * time.Hour
	ca := issue(t, nil, now, now.Add(30*year), 0)
	pin := Pin(ca.cert)
	good := issue(t, ca, now, now.Add(5*year), x509.ExtKeyUsageServerAuth)
	expired := issue(t, ca, now.Add(-10*year), now.Add(-5*year), x509.ExtKeyUsageServerAuth)
	future := issue(t, ca, now.Add(5*year), now.Add(10*year), x509.ExtKeyUsageServerAuth)
	for name, clock := range map[string]time.Time{"right": now, "1970": time.Unix(3, 0), "ahead": now.Add(50 * year)} {
		for what, leaf := range map[string]*issuer{"good": good, "not yet valid": future} {
			if err := meet(t, pin, clock, leaf, ca); err != nil {
				t.Errorf("clock %s, leaf %s: %v", name, what, err)
			}
		}
	}
	// A leaf that ended before its CA began was never good.
	if err := meet(t, pin, now, expired, ca); !errors.Is(err, ErrPin) {
		t.Errorf("leaf from before its CA: %v", err)
	}
	old := issue(t, nil, now.Add(-30*year), now.Add(-year), 0)
	if err := meet(t, Pin(old.cert), now, issue(t, old, now.Add(-10*year), now.Add(-5*year), x509.ExtKeyUsageServerAuth), old); err != nil {
		t.Errorf("expired leaf under an expired CA: %v", err)
	}
}

func TestPinRefuses(t *testing.T) {
	now := time.Now()
	later := now.Add(time.Hour)
	ca, other := issue(t, nil, now, later, 0), issue(t, nil, now, later, 0)
	pin := Pin(ca.cert)
	f := func(want string, leaf *issuer, chain ...*issuer) {
		t.Helper()
		if err := meet(t, pin, now, leaf, chain...); !errors.Is(err, ErrPin) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	server := x509.ExtKeyUsageServerAuth
	f("pin "+pin+" is not in its chain (it shows "+Pin(other.cert)+")", issue(t, other, now, later, server), other)
	f("unknown authority", issue(t, other, now, later, server), ca) // the pinned certificate, which is public, beside another's
	f("unknown authority", issue(t, other, now, later, server), other, ca)
	f("incompatible key usage", issue(t, ca, now, later, x509.ExtKeyUsageClientAuth), ca)
	f("is not in its chain", issue(t, ca, now, later, server)) // without its CA
	if err := VerifyPinned(nil, pin); !errors.Is(err, ErrPin) {
		t.Errorf("no certificate: %v", err)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(NewToken(strings.Repeat("A", 43)).String())
	f.Add("brm1.x.y.z")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err != nil {
			return
		}
		if again, err := ParseToken(token.String()); err != nil || again != token {
			t.Errorf("%q: %+v became %+v, %v", text, token, again, err)
		}
	})
}
