package pager

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/incident"
	"bramble/alerting/outbox"
	"bramble/alerting/rules"
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
		p, err := Open(Options{DB: db})
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
	p.Deliver([]alert.Transition{alerttest.Fire("b1", time.Now())})
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
	in, err := p.Incidents(context.Background(), incident.Query{})
	if err != nil || a[PageURL] != "http://collector.example/incidents?id="+in[0].ID {
		t.Errorf("%q, %v", a[PageURL], err)
	}
	if in[0].Alerts[0].Annotations[PageSubject] != "" {
		t.Error("links stand in the incident's own annotations")
	}
}

// BenchmarkFacts is what a page's words cost before each try, among 10,000 resolved incidents of which one in ten has a
// comment.
func BenchmarkFacts(b *testing.B) {
	p, err := Open(Options{DB: openDB(b, b.TempDir()), ExternalURL: "https://bramble.example.org/"})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	ctx, t := context.Background(), alerttest.Fire("b1", time.Now())
	in := incident.Incident{Alerts: []incident.Alert{{Rule: t.Rule, Labels: t.Labels, Annotations: t.Annotations, StartsAt: t.At}}}
	for i := range 10_000 {
		in.ID, in.ResolvedAt, in.OpenedAt, in.Ack = "old-"+strconv.Itoa(i), int64(i+2), int64(i+1), nil
		in.Alerts[0].Series = `board="b` + strconv.Itoa(i%100) + `"`
		if i%10 == 0 {
			in.Ack = &incident.Ack{By: "mira", At: 1, Comment: "the fan"}
		}
		in.Describe()
		if err := incident.Save(ctx, p.db, &in); err != nil {
			b.Fatal(err)
		}
	}
	in.ID, in.ResolvedAt, in.Ack, in.Alerts[0].Series = "now", 0, nil, t.Series
	if err := incident.Save(ctx, p.db, &in); err != nil {
		b.Fatal(err)
	}
	l := &outbox.Message{ID: "now-1", Incident: "now", Receiver: "oncall", CreatedAt: time.Now().UnixMilli()}
	for b.Loop() {
		if _, err := p.factsOf(ctx, l, true); err != nil {
			b.Fatal(err)
		}
	}
}

// Chat rooms get the same words, and the picture by its link, from configurations that say nothing of either.
func TestChatReceiversShowThePicture(t *testing.T) {
	store := openSeries(t)
	in := hotBoard(t, store)
	pictures := NewPictures(rules.NewEngine(rules.Default()), store, nil)
	defer pictures.Close()
	address, got := gatewaySink(t, func(_ int, w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	p := runPager(t, Options{
		DB: openDB(t, t.TempDir()), ExternalURL: "https://bramble.example.org/", Pictures: pictures,
		Config: []byte("route: {receiver: room, group_wait: 0s}\nreceivers: [{name: room, slack_configs: [{api_url: '" + address + "', channel: '#alerts'}]}]"),
	})
	a := in.Alerts[0]
	a.Annotations["runbook"] = "Look at the fan."
	p.Deliver([]alert.Transition{{Rule: a.Rule, Series: a.Series, Labels: a.Labels, Annotations: a.Annotations, State: alert.Firing, At: a.StartsAt, Since: a.StartsAt, FiredAt: a.StartsAt}})
	var m struct {
		Attachments []struct {
			Title, Text string
			Link        string `json:"title_link"`
			Image       string `json:"image_url"`
		}
	}
	if err := json.Unmarshal([]byte(nextRequest(t, got).body), &m); err != nil || len(m.Attachments) != 1 {
		t.Fatalf("%+v %v", m, err)
	}
	shown := m.Attachments[0]
	if !strings.HasPrefix(shown.Title, "r1-a-03: SoC at 80.4 °C (rack r1, switch r1-a) since ") || !strings.Contains(shown.Text, "Look at the fan.") ||
		!strings.HasPrefix(shown.Link, "https://bramble.example.org/incidents?id=") {
		t.Errorf("%+v", shown)
	}
	l, err := p.ReadLink(PictureLink, strings.TrimPrefix(shown.Image, "https://bramble.example.org/picture/"))
	if err != nil {
		t.Fatalf("image %q: %v", shown.Image, err)
	}
	if b, err := p.Picture(context.Background(), l); err != nil || !bytes.HasPrefix(b, []byte("\x89PNG")) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// A page about no incident, as a receiver without links gets it, says what its one alert says.
func TestAPageWithoutAnIncidentHasWords(t *testing.T) {
	p, err := Open(Options{DB: openDB(t, t.TempDir())})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	tmpl := p.routing.Load().templates
	a := &amalert.Alert{}
	a.Labels = model.LabelSet{"alertname": "Bundle"}
	a.Annotations = model.LabelSet{"summary": "3 incidents", "description": "#1 <hot>\n#2 silent"}
	a.StartsAt = time.Now()
	ctx, alerts := p.enriched(exampleContext(), &outbox.Message{Receiver: "oncall"}, []*amalert.Alert{a})
	d, err := p.pageData(ctx, tmpl, alerts)
	if err != nil {
		t.Fatal(err)
	}
	if d.Subject != "3 incidents" || !strings.Contains(d.Text, "#1 <hot>\n#2 silent") {
		t.Errorf("subject %q, text %q", d.Subject, d.Text)
	}
	html, err := tmpl.ExecuteHTMLString(`{{ template "email.default.html" . }}`, d.Data)
	if err != nil || !strings.Contains(html, "#1 &lt;hot&gt;\n#2 silent") {
		t.Errorf("%v\n%s", err, html)
	}
}
