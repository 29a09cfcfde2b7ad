package alerting

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestLinks(t *testing.T) {
	key, now := []byte("0123456789abcdef0123456789abcdef"), time.UnixMilli(1_790_000_000_000)
	l := Link{AckLink, "3f2a", "on call, night", now}
	text := signLink(key, l)
	if strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		t.Errorf("%s would need escaping in a URL", text)
	}
	if got, err := readLink(key, AckLink, text, now.Add(linkLife)); err != nil || got != l {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := readLink(key, AckLink, text, now.Add(linkLife+time.Second)); !errors.Is(err, ErrLinkExpired) || got != l {
		t.Errorf("after its life: got %+v, %v", got, err)
	}
	f := func(why string, kind LinkKind, text string, key []byte) {
		t.Helper()
		if _, err := readLink(key, kind, text, now); !errors.Is(err, ErrLink) {
			t.Errorf("%s: got %v, want ErrLink", why, err)
		}
	}
	f("another kind", PictureLink, text, key)
	f("another key", AckLink, text, []byte("another"))
	f("cut short", AckLink, text[:len(text)-4], key)
	f("empty", AckLink, "", key)
	f("no base64", AckLink, "?"+text, key)
	f("only a MAC", AckLink, base64.RawURLEncoding.EncodeToString(mac(key, nil)), key)
	f("very long", AckLink, strings.Repeat("A", 4096), key)
	for i := range len(text) {
		other := []byte(text)
		other[i] = map[bool]byte{true: 'B', false: 'A'}[other[i] == 'A']
		f("one letter changed", AckLink, string(other), key)
	}
}

// A collector that starts again keeps the key: links in pages that left go on working.
func TestLinksHoldAcrossARestart(t *testing.T) {
	db := openDB(t, t.TempDir())
	open := func() *Pager {
		p, err := OpenPager(PagerOptions{DB: db})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := open()
	text := signLink(p.linkKey, Link{AckLink, "a", "b", time.Now()})
	p.Close()
	p = open()
	defer p.Close()
	if _, err := p.ReadLink(AckLink, text); err != nil {
		t.Error(err)
	}
}

func FuzzReadLink(f *testing.F) {
	key := []byte("key")
	f.Add(signLink(key, Link{AckLink, "id", "receiver", time.UnixMilli(1)}))
	f.Add(signLink(key, Link{PictureLink, "", "", time.UnixMilli(0)}))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := readLink(key, AckLink, text, time.UnixMilli(2))
		if err == nil && signLink(key, l) != text {
			t.Errorf("%q was taken for %+v, which is written %q", text, l, signLink(key, l))
		}
	})
}

// Every page carries what templates need, the same in each try.
func TestAPageOfAWebhookCarriesItsLinks(t *testing.T) {
	s := newSink(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	p := startPager(t, openDB(t, t.TempDir()), oneSink(s.URL, ""), nil)
	p.Deliver([]Transition{fire("b1", time.Now())})
	first, second := s.next(t), s.next(t)
	a, b := first.Alerts[0].Annotations, second.Alerts[0].Annotations
	if a[PageAckURL] == "" || a[PageAckURL] != b[PageAckURL] {
		t.Errorf("links %q and %q, want the same", a[PageAckURL], b[PageAckURL])
	}
	text, ok := strings.CutPrefix(a[PageAckURL], "http://collector.example/ack/")
	if l, err := p.ReadLink(AckLink, text); !ok || err != nil || l.Receiver != "hook" {
		t.Errorf("%s: %+v, %v", a[PageAckURL], l, err)
	}
	if want := "b1: SoC at 81.0 °C (rack r1) since "; !strings.HasPrefix(a[PageSubject], want) {
		t.Errorf("subject %q, want %q …", a[PageSubject], want)
	}
	in, err := p.Incidents(context.Background(), Query{})
	if err != nil || a[PageURL] != "http://collector.example/incidents?id="+in[0].ID {
		t.Errorf("%q, %v", a[PageURL], err)
	}
	if in[0].Alerts[0].Annotations[PageSubject] != "" {
		t.Error("links stand in the incident's own annotations")
	}
}
