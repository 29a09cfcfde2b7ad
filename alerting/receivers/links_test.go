package receivers

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/common/model"
	_ "modernc.org/sqlite"

	"bramble/alerting/alerttest"
	"bramble/alerting/database"
	"bramble/alerting/incident"
	"bramble/alerting/outbox"
	"bramble/storage/statedb"
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

// A page about no incident, as a receiver without links gets it, has the words of its one alert.
func TestAPageWithoutAnIncidentHasWords(t *testing.T) {
	conf, err := config.Load("route: {receiver: oncall}\nreceivers: [{name: oncall}]")
	if err != nil {
		t.Fatal(err)
	}
	set := build(t, conf)
	tmpl := set.Templates
	a := &amalert.Alert{}
	a.Labels = model.LabelSet{"alertname": "Bundle"}
	a.Annotations = model.LabelSet{"summary": "3 incidents", "description": "#1 <hot>\n#2 silent"}
	a.StartsAt = time.Now()
	ctx, alerts := set.enriched(exampleContext(), &outbox.Message{Receiver: "oncall"}, []*amalert.Alert{a})
	d, err := set.parts.pageData(ctx, tmpl, alerts)
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

// BenchmarkFacts is what a page's words cost before each try, among 10,000 resolved incidents of which one in ten has a
// comment.
func BenchmarkFacts(b *testing.B) {
	ctx, t := context.Background(), alerttest.Fire("b1", time.Now())
	db, err := sql.Open("sqlite", "file:"+filepath.Join(b.TempDir(), "state.db")+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if err := statedb.Ready(ctx, db); err != nil {
		b.Fatal(err)
	}
	external, err := url.Parse("https://bramble.example.org/")
	if err != nil {
		b.Fatal(err)
	}
	p := &Parts{DB: database.NewPrepared(db), ExternalURL: external}
	if p.LinkKey, err = LinkKey(ctx, db); err != nil {
		b.Fatal(err)
	}
	in := incident.Incident{Alerts: []incident.Alert{{Rule: t.Rule, Labels: t.Labels, Annotations: t.Annotations, StartsAt: t.At}}}
	for i := range 10_000 {
		in.ID, in.ResolvedAt, in.OpenedAt, in.Ack = "old-"+strconv.Itoa(i), int64(i+2), int64(i+1), nil
		in.Alerts[0].Series = `board="b` + strconv.Itoa(i%100) + `"`
		if i%10 == 0 {
			in.Ack = &incident.Ack{By: "mira", At: 1, Comment: "the fan"}
		}
		in.Describe()
		if err := incident.Save(ctx, db, &in); err != nil {
			b.Fatal(err)
		}
	}
	in.ID, in.ResolvedAt, in.Ack, in.Alerts[0].Series = "now", 0, nil, t.Series
	if err := incident.Save(ctx, db, &in); err != nil {
		b.Fatal(err)
	}
	l := &outbox.Message{ID: "now-1", Incident: "now", Receiver: "oncall", CreatedAt: time.Now().UnixMilli()}
	for b.Loop() {
		if _, err := p.factsOf(ctx, l, true); err != nil {
			b.Fatal(err)
		}
	}
}

// build makes the receivers of a configuration, without a database.
func build(t testing.TB, conf *config.Config) *Set {
	t.Helper()
	set, err := Build(conf, &Own{}, &Parts{ExternalURL: &url.URL{}, Log: slog.New(slog.DiscardHandler), AMLog: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return set
}
