package pager

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net"
	"net/mail"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/alerttest/readings"
	"bramble/alerting/incident"
	"bramble/alerting/receivers"
	"bramble/alerting/rules"
)

// letterbox is a real SMTP server.
type letterbox struct {
	addr string
	got  chan received
}

// received is one mail as the server took it.
type received struct {
	from string
	to   []string
	data []byte
}

type smtpSession struct {
	box *letterbox
	received
}

func (s *smtpSession) Mail(from string, _ *smtp.MailOptions) error { s.from = from; return nil }
func (s *smtpSession) Rcpt(to string, _ *smtp.RcptOptions) error   { s.to = append(s.to, to); return nil }
func (s *smtpSession) Reset()                                      { s.received = received{} }
func (s *smtpSession) Logout() error                               { return nil }
func (s *smtpSession) Data(r io.Reader) (err error) {
	if s.data, err = io.ReadAll(r); err == nil {
		s.box.got <- s.received
	}
	return err
}

func newLetterbox(t testing.TB) *letterbox {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	box := &letterbox{l.Addr().String(), make(chan received, 100)}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &smtpSession{box: box}, nil }))
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	return box
}

func (b *letterbox) next(t testing.TB) received {
	t.Helper()
	select {
	case m := <-b.got:
		return m
	case <-time.After(patience):
		t.Fatalf("no mail within %s", patience)
		return received{}
	}
}

// parts returns the leaves of a mail by their content type; the last of two of one type counts.
func (m received) parts(t testing.TB) (mail.Header, map[string]part) {
	t.Helper()
	msg, err := mail.ReadMessage(bytes.NewReader(m.data))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]part{}
	leaves(t, msg.Header.Get("Content-Type"), "", "", msg.Body, out)
	return msg.Header, out
}

type part struct {
	id   string
	body []byte
}

func leaves(t testing.TB, contentType, encoding, id string, body io.Reader, out map[string]part) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(kind, "multipart/") {
		if encoding == "base64" {
			body = base64Reader(body)
		}
		b, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		out[kind] = part{id, b}
		return
	}
	for r := multipart.NewReader(body, params["boundary"]); ; {
		p, err := r.NextPart() // decodes quoted-printable
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		leaves(t, p.Header.Get("Content-Type"), p.Header.Get("Content-Transfer-Encoding"), p.Header.Get("Content-ID"), p, out)
	}
}

// base64Reader reads what mails wrap at 76 characters.
func base64Reader(r io.Reader) io.Reader { return base64.NewDecoder(base64.StdEncoding, r) }

// runPager opens and runs a pager.
func runPager(t testing.TB, o Options) *Pager {
	t.Helper()
	o.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	p, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, p.Close()); err != nil {
			t.Error(err)
		}
	})
	return p
}

const mailConfig = `
global: {smtp_smarthost: "SMARTHOST", smtp_from: "Bramble <bramble@example.org>", smtp_require_tls: false, smtp_hello: test}
route: {receiver: oncall, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}
receivers:
  - name: oncall
    email_configs: [{to: "mira@example.org, night@example.org", send_resolved: true}]
`

func TestAMailSaysWhatWhereSinceWhenAndShowsIt(t *testing.T) {
	t.Parallel()
	series, box := readings.Open(t), newLetterbox(t)
	in := readings.HotBoard(t, series)
	engine := rules.NewEngine(rules.Default())
	pictures := receivers.NewPictures(engine, series, nil)
	pictures.Budget = receivers.TryTimeout // a busy machine must not fail the test
	defer pictures.Close()
	p := runPager(t, Options{
		DB: openDB(t, t.TempDir()), Config: []byte(strings.Replace(mailConfig, "SMARTHOST", box.addr, 1)),
		ExternalURL: "https://bramble.example.org/", Pictures: pictures,
	})
	// What was said the last time.
	old := *in
	old.ID, old.ResolvedAt, old.OpenedAt = "old", time.Now().Add(-24*time.Hour).UnixMilli(), time.Now().Add(-25*time.Hour).UnixMilli()
	old.Ack = &incident.Ack{By: "jonas", At: old.OpenedAt, Comment: "the fan was unplugged"}
	old.StartedAt = old.OpenedAt
	if err := incident.Save(context.Background(), p.db, &old); err != nil {
		t.Fatal(err)
	}
	a := in.Alerts[0]
	a.Annotations["runbook"], a.Annotations[alert.ReasonNote] = "Look at the fan.", "It crossed 80 °C & stays."
	fire := alert.Transition{Rule: a.Rule, Series: a.Series, Labels: a.Labels, Annotations: a.Annotations, State: alert.Firing, At: a.StartsAt, Since: a.StartsAt, FiredAt: a.StartsAt}
	p.Deliver([]alert.Transition{fire})
	m := box.next(t)
	header, parts := m.parts(t)
	subject, err := new(mime.WordDecoder).DecodeHeader(header.Get("Subject"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "r1-a-03: SoC at 80.4 °C (rack r1, switch r1-a) since " + time.UnixMilli(a.StartsAt).UTC().Format("15:04:05 UTC"); subject != want {
		t.Errorf("subject %q, want %q", subject, want)
	}
	if m.from != "bramble@example.org" || len(m.to) != 2 || header.Get("To") != "mira@example.org, night@example.org" {
		t.Errorf("from %s to %v, header %q", m.from, m.to, header.Get("To"))
	}
	text, html := string(parts["text/plain"].body), string(parts["text/html"].body)
	for _, want := range []string{"It crossed 80 °C & stays.", "First steps: Look at the fan.", `"the fan was unplugged" (jonas)`, "https://bramble.example.org/board/r1-a-03"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
	for _, want := range []string{"It crossed 80 °C &amp; stays.", `src="cid:page-picture"`, "Look at the fan.", "the fan was unplugged"} {
		if !strings.Contains(html, want) {
			t.Errorf("the HTML lacks %q:\n%s", want, html)
		}
	}
	if id := parts["image/png"].id; id != "<page-picture>" || !bytes.HasPrefix(parts["image/png"].body, []byte("\x89PNG")) {
		t.Errorf("picture %q, %d bytes", id, len(parts["image/png"].body))
	}
	link := regexp.MustCompile(`/ack/([\w-]+)`).FindStringSubmatch(text)
	if link == nil {
		t.Fatalf("no link to acknowledge:\n%s", text)
	}
	got, err := p.ReadLink(receivers.AckLink, link[1])
	if err != nil || got.Receiver != "oncall" {
		t.Fatalf("link %+v: %v", got, err)
	}
	if _, err := p.Incident(context.Background(), got.Incident); err != nil {
		t.Error(err)
	}
	end := fire
	end.From, end.State, end.At = alert.Firing, alert.Inactive, time.Now().UnixMilli()
	p.Deliver([]alert.Transition{end})
	header, parts = box.next(t).parts(t)
	if s, _ := new(mime.WordDecoder).DecodeHeader(header.Get("Subject")); !strings.HasPrefix(s, "Resolved: r1-a-03") {
		t.Errorf("subject %q", s)
	}
	if strings.Contains(string(parts["text/plain"].body), "/ack/") {
		t.Error("a resolved incident offers to acknowledge")
	}
}

func TestAMailLeavesWithoutAPictureThatIsLate(t *testing.T) {
	ctx, idle := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	defer func() { idle(); busy.Wait() }()
	for range 4 * runtime.GOMAXPROCS(0) { // the bound holds on a busy machine
		busy.Go(func() {
			for ctx.Err() == nil {
			}
		})
	}
	box, store := newLetterbox(t), readings.SlowStore{Release: make(chan struct{})}
	pictures := receivers.NewPictures(rules.NewEngine(rules.Default()), store, nil)
	defer pictures.Close()
	defer close(store.Release)
	p := runPager(t, Options{DB: openDB(t, t.TempDir()), Config: []byte(strings.Replace(mailConfig, "SMARTHOST", box.addr, 1)), Pictures: pictures})
	at := time.Now().UnixMilli()
	p.Deliver([]alert.Transition{{Rule: readings.RuleID(t, "SocHot"), Series: `board="b1"`, Labels: map[string]string{"alertname": "SocHot", "board": "b1"}, State: alert.Firing, At: at, Since: at, FiredAt: at}})
	_, parts := box.next(t).parts(t)
	if _, ok := parts["image/png"]; ok || strings.Contains(string(parts["text/html"].body), "cid:") {
		t.Error("a picture that nobody drew is in the mail")
	}
	waitFor(t, p, func(in incident.Incident) bool { return len(in.Pages) == 1 && in.Pages[0].State == "delivered" })
	took := timings(t, p)
	if len(took) != 1 {
		t.Fatalf("%d events say where the time went: %q", len(took), took)
	}
	drew := regexp.MustCompile(`, picture (\d+(?:\.\d)?) (m?s),`).FindStringSubmatch(took[0])
	if drew == nil {
		t.Fatalf("no time of a picture in %q", took[0])
	}
	if d, err := time.ParseDuration(drew[1] + drew[2]); err != nil || d < 300*time.Millisecond || d > receivers.TryTimeout/2 {
		t.Errorf("the mail waited %s for its picture, want %s and the scheduler's delay", d, 300*time.Millisecond)
	}
}

// timings are the events of the newest incident that say where the time went.
func timings(t testing.TB, p *Pager) (out []string) {
	t.Helper()
	list, err := p.Incidents(t.Context(), incident.Query{})
	if err != nil || len(list) == 0 {
		t.Fatalf("%d incidents, %v", len(list), err)
	}
	events, err := p.Timeline(t.Context(), list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == "timing" {
			out = append(out, e.Text)
		}
	}
	return out
}

// The incident shows where the time went from the reading to the provider, once for each page that tells of something new.
func TestAnIncidentShowsWhereTheTimeWent(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	p := runPager(t, Options{DB: openDB(t, t.TempDir()), Config: oneSink(s.URL, "")})
	now := time.Now().UnixMilli()
	hot := alerttest.Fire("b1", time.UnixMilli(now-3000))
	hot.Arrived, hot.Received, hot.Journalled = now-2500, now-2490, now-2400
	p.Deliver([]alert.Transition{hot})
	s.next(t)
	waitFor(t, p, pageState("delivered"))
	p.Deliver([]alert.Transition{alerttest.Resolve(hot, time.Now())})
	s.next(t)
	waitFor(t, p, func(in incident.Incident) bool { return len(in.Pages) == 2 && in.Pages[1].State == "delivered" })
	const number = `\d+(\.\d)? m?s`
	want := regexp.MustCompile(`^` + number + ` in all: sampled to received 500 ms, decided 10 ms, journalled 90 ms, held for peers ` + number +
		`, written ` + number + `, queued ` + number + `, prepared ` + number + `, sent and taken ` + number + `$`)
	if took := timings(t, p); len(took) != 1 || !want.MatchString(took[0]) {
		t.Errorf("the time line says %q", took)
	}
}
