package pager

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/alerttest/readings"
	"bramble/alerting/incident"
	"bramble/alerting/receivers"
	"bramble/alerting/rules"
)

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
	text := p.parts.Sign(receivers.Link{Kind: receivers.AckLink, Incident: "a", Receiver: "b", At: time.Now()})
	p.Close()
	p = open()
	defer p.Close()
	if _, err := p.ReadLink(receivers.AckLink, text); err != nil {
		t.Error(err)
	}
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
	if a[receivers.PageAckURL] == "" || a[receivers.PageAckURL] != b[receivers.PageAckURL] {
		t.Errorf("links %q and %q, want the same", a[receivers.PageAckURL], b[receivers.PageAckURL])
	}
	text, ok := strings.CutPrefix(a[receivers.PageAckURL], "http://collector.example/ack/")
	if l, err := p.ReadLink(receivers.AckLink, text); !ok || err != nil || l.Receiver != "hook" {
		t.Errorf("%s: %+v, %v", a[receivers.PageAckURL], l, err)
	}
	if want := "b1: SoC at 81.0 °C (rack r1) since "; !strings.HasPrefix(a[receivers.PageSubject], want) {
		t.Errorf("subject %q, want %q …", a[receivers.PageSubject], want)
	}
	in, err := p.Incidents(context.Background(), incident.Query{})
	if err != nil || a[receivers.PageURL] != "http://collector.example/incidents?id="+in[0].ID {
		t.Errorf("%q, %v", a[receivers.PageURL], err)
	}
	if in[0].Alerts[0].Annotations[receivers.PageSubject] != "" {
		t.Error("links stand in the incident's own annotations")
	}
}

// Chat rooms get the same words, and the picture by its link, from configurations that say nothing of either.
func TestChatReceiversShowThePicture(t *testing.T) {
	store := readings.Open(t)
	in := readings.HotBoard(t, store)
	pictures := receivers.NewPictures(rules.NewEngine(rules.Default()), store, nil)
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
	l, err := p.ReadLink(receivers.PictureLink, strings.TrimPrefix(shown.Image, "https://bramble.example.org/picture/"))
	if err != nil {
		t.Fatalf("image %q: %v", shown.Image, err)
	}
	if b, err := p.Picture(context.Background(), l); err != nil || !bytes.HasPrefix(b, []byte("\x89PNG")) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}
