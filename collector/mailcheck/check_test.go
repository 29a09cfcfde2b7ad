package mailcheck

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// zone is a real DNS server on loopback.
type zone map[string][]string // TXT by name, and addresses by name

func (z zone) serve(t *testing.T) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	s := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(z.answer)}
	ended := make(chan error, 1)
	go func() { ended <- s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { s.Shutdown(); <-ended })
	return NewResolver(pc.LocalAddr().String())
}

func (z zone) answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	name, kind := strings.TrimSuffix(q.Question[0].Name, "."), q.Question[0].Qtype
	head := dns.RR_Header{Name: q.Question[0].Name, Rrtype: kind, Class: dns.ClassINET, Ttl: 1}
	values, known := z[name]
	for _, v := range values {
		ip := net.ParseIP(v)
		switch {
		case v == "SERVFAIL":
			m.Rcode = dns.RcodeServerFailure
		case kind == dns.TypeTXT && ip == nil:
			var cut []string
			for ; len(v) > 255; v = v[255:] {
				cut = append(cut, v[:255])
			}
			m.Answer = append(m.Answer, &dns.TXT{Hdr: head, Txt: append(cut, v)})
		case kind == dns.TypeA && ip.To4() != nil:
			m.Answer = append(m.Answer, &dns.A{Hdr: head, A: ip})
		}
	}
	if !known {
		m.Rcode = dns.RcodeNameError
	}
	_ = w.WriteMsg(m) // the client asks again
}

// key is the public part of an RSA key as a record has it.
func key(t *testing.T, bits int) string {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b)
}

func TestDomain(t *testing.T) {
	long, short, tiny := key(t, 2048), key(t, 1024), key(t, 512)
	const mx = "203.0.113.7"
	f := func(name string, z zone, selectors []string, want ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			c := Checker{Resolver: z.serve(t), Selectors: selectors}
			s := Sender{From: "bramble@example.org"}
			all := append([]Finding{c.spf(t.Context(), s, "example.org", []net.IP{net.ParseIP(mx)})}, c.dkim(t.Context(), "example.org")...)
			all = append(all, c.dmarc(t.Context(), "example.org"))
			for i, f := range all {
				if got := fmt.Sprintf("%s %s: %s", f.About, f.Grade, f.What); i >= len(want) || !strings.HasPrefix(got, want[i]) {
					t.Errorf("%s\n advice: %s", got, f.Advice)
				}
				if f.Grade == Bad && f.Advice == "" {
					t.Errorf("%s: no advice", f.What)
				}
			}
			if len(all) != len(want) {
				t.Errorf("%d findings, want %d", len(all), len(want))
			}
		})
	}
	f("all is well", zone{
		"example.org": {"some-verification=1", "v=spf1 include:_spf.example.net -all"}, "_spf.example.net": {"v=spf1 ip4:203.0.113.0/24 -all"},
		"mail._domainkey.example.org": {"v=DKIM1; k=rsa; p=" + long}, "_dmarc.example.org": {"v=DMARC1; p=none"},
	}, nil, `SPF ok: "v=spf1 include`, "DKIM ok: mail._domainkey.example.org: an RSA key of 2048 bits", "DMARC ok")
	f("nothing", zone{}, nil, "SPF bad: example.org has no SPF record", "DKIM check: example.org has a key under none", "DMARC check: example.org has no DMARC")
	f("a named selector", zone{"example.org": {"v=spf1 ~all"}}, []string{"east"}, `SPF check: "v=spf1 ~all" says softfail of 203.0.113.7`,
		"DKIM bad: there is no key at east._domainkey.example.org", "DMARC check")
	f("two records", zone{"example.org": {"v=spf1 -all", "v=spf1 mx -all"}, "_dmarc.example.org": {"v=DMARC1; x"}}, nil,
		"SPF bad: example.org has 2 SPF records", "DKIM check", "DMARC bad")
	f("everybody", zone{"example.org": {"v=spf1 +all"}}, nil, "SPF bad: example.org lets everybody send", "DKIM check", "DMARC check")
	f("broken", zone{"example.org": {"v=spf1 ip4:not-an-address -all"}}, nil, `SPF bad: "v=spf1 ip4:not-an-address -all": permerror`, "DKIM check", "DMARC check")
	f("no server", zone{"example.org": {"SERVFAIL"}}, nil, "SPF bad: example.org:", "DKIM check", "DMARC check")
	f("keys", zone{
		"example.org": {"v=spf1 ip4:203.0.113.7 -all"}, "a._domainkey.example.org": {"v=DKIM1; p=" + short}, "b._domainkey.example.org": {"p=" + tiny},
		"c._domainkey.example.org": {"v=DKIM1; p="}, "d._domainkey.example.org": {"v=DKIM1; p=%%%"}, "e._domainkey.example.org": {"v=DKIM1; p=" + long[:200]},
		"f._domainkey.example.org": {"v=DKIM2; p=" + long}, "g._domainkey.example.org": {"nonsense"}, "h._domainkey.example.org": {"v=DKIM1; t=y; p=" + long},
	}, []string{"a", "b", "c", "d", "e", "f", "g", "h"}, "SPF ok",
		"DKIM check: a._domainkey.example.org: an RSA key of 1024 bits", "DKIM bad: b._domainkey.example.org: an RSA key of 512 bits, too short",
		"DKIM bad: c._domainkey.example.org: the key is revoked", "DKIM bad: d._domainkey.example.org: p= is no base64", "DKIM bad: e._domainkey.example.org: p= is no RSA key",
		`DKIM bad: f._domainkey.example.org: version "DKIM2"`, `DKIM bad: g._domainkey.example.org: "nonsense" is no list of tags`,
		"DKIM check: h._domainkey.example.org: a good key, marked as a test", "DMARC check")
}

// mailServer speaks enough SMTP for a greeting and STARTTLS.
func mailServer(t *testing.T, lines map[string]string, secure *tls.Config) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fmt.Fprint(conn, lines["greeting"])
				in := bufio.NewScanner(conn)
				for in.Scan() {
					verb, _, _ := strings.Cut(strings.ToUpper(in.Text()), " ")
					fmt.Fprint(conn, lines[verb])
					if verb == "STARTTLS" && secure != nil {
						s := tls.Server(conn, secure)
						if s.Handshake() != nil {
							return
						}
						in = bufio.NewScanner(s)
						conn = s
					}
				}
			}()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

func certificate(t *testing.T, host string) (*tls.Config, *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{host}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: k}}}, pool
}

func TestSmarthost(t *testing.T) {
	secure, pool := certificate(t, "mx.example.org")
	c := Checker{Resolver: zone{"mx.example.org": {"127.0.0.1"}}.serve(t)}
	good := map[string]string{"greeting": "220 mx ESMTP\r\n", "EHLO": "250-mx\r\n250 STARTTLS\r\n", "STARTTLS": "220 go ahead\r\n", "QUIT": "221 bye\r\n"}
	plain := map[string]string{"greeting": "220 mx ESMTP\r\n", "EHLO": "250 mx\r\n"}
	f := func(port string, change func(*Sender), roots *x509.CertPool, want string) {
		t.Helper()
		s := Sender{From: "bramble@example.org", Host: "mx.example.org", Port: port, RequireTLS: true}
		if change != nil {
			change(&s)
		}
		_, found := c.smarthost(t.Context(), s, &tls.Config{ServerName: s.Host, RootCAs: roots})
		if got := fmt.Sprintf("%s %s: %s", found[0].About, found[0].Grade, found[0].What); len(found) != 1 || !strings.Contains(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f(mailServer(t, good, secure), nil, pool, "STARTTLS ok: mx.example.org")
	f(mailServer(t, good, secure), nil, x509.NewCertPool(), "certificate signed by unknown authority")
	f(mailServer(t, plain, nil), nil, pool, "STARTTLS bad: ")
	f(mailServer(t, plain, nil), func(s *Sender) { s.RequireTLS = false }, pool, "STARTTLS check: ")
	f(mailServer(t, map[string]string{"greeting": "HTTP/1.1 400 Bad Request\r\n"}, nil), nil, pool, "does not speak SMTP")
	f(mailServer(t, map[string]string{"greeting": "220 mx\r\n", "EHLO": "550 who?\r\n", "HELO": "550 who?\r\n"}, nil), nil, pool, "refuses EHLO localhost")
	f(mailServer(t, good, nil), func(s *Sender) { s.Implicit = true }, pool, "TLS from the start")
	f("1", nil, pool, "smarthost bad: mx.example.org:1: ")
	f("25", func(s *Sender) { s.Host = "none.example.org" }, pool, "smarthost bad: none.example.org: ")
	if bad := c.Check(context.Background(), Sender{From: "nobody"}, nil); len(bad) != 1 || bad[0].Grade != Bad {
		t.Errorf("a sender without a domain: %v", bad)
	}
}

func FuzzTags(f *testing.F) {
	f.Add("v=DKIM1; k=rsa; p=AAAA")
	f.Add("v=DKIM1;;p=")
	f.Fuzz(func(t *testing.T, record string) {
		if tags, err := parseTags(record); err == nil {
			for name := range tags {
				if name == "" {
					t.Errorf("%q has a tag without a name", record)
				}
			}
		}
		found := judgeKey("x", []string{record})
		if !slices.Contains([]Grade{Good, Doubt, Bad}, found.Grade) {
			t.Errorf("%q: %v", record, found)
		}
	})
}
