package pager

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/incident"
	"bramble/alerting/oncall"
)

const rotaOfTwo = `
people: [{name: ada, channels: [{receiver: ada-ntfy}]}, {name: jonas, channels: [{receiver: jonas-ntfy}]}]
rotas: [{name: first, zone: UTC, layers: [{people: [ada], start: 2026-01-01, handover: "09:00", rotate: daily}]}]
policies: [{name: default, receivers: [oncall], steps: [{notify: [first]}]}]
`

// TestOnCallBroken: a broken file is named with its line and spoils nothing: at a reload the old one stays, and at a start
// the last good one is in force.
func TestOnCallBroken(t *testing.T) {
	db, routes := openDB(t, t.TempDir()), channelsTo("http://127.0.0.1:1", "ada-ntfy", "jonas-ntfy")
	broken := []byte(strings.Replace(rotaOfTwo, "zone: UTC", "zone: Mars", 1))
	if _, err := Open(Options{DB: db, Config: routes, OnCall: broken}); err == nil || !strings.HasPrefix(err.Error(), `oncall.yml:3: zone: "Mars"`) {
		t.Fatalf("a broken file at the first start: %v", err)
	}
	open := func(text []byte) (*Pager, *prometheus.Registry) {
		t.Helper()
		reg := prometheus.NewRegistry()
		p, err := Open(Options{DB: db, Config: routes, OnCall: text, Registerer: reg})
		if err != nil {
			t.Fatal(err)
		}
		return p, reg
	}
	broke := func(reg *prometheus.Registry) (v float64) {
		all, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			if m.GetName() == "bramble_oncall_file_broken" {
				v = m.Metric[0].GetGauge().GetValue()
			}
		}
		return v
	}
	p, reg := open([]byte(rotaOfTwo))
	if p.Silent() || broke(reg) != 0 {
		t.Error("a receiver that stands for a policy counts as silent, or the file as broken")
	}
	err := p.ReloadWithOnCall(routes, broken)
	if err == nil || p.OnCall().PolicyOf("oncall") == nil {
		t.Errorf("reload: %v", err)
	}
	if err := p.Reload(channelsTo("http://127.0.0.1:1", "jonas-ntfy")); err == nil || !strings.Contains(err.Error(), `no receiver "ada-ntfy"`) {
		t.Errorf("an alertmanager.yml that takes a channel away: %v", err)
	}
	p.Close()
	p, reg = open(broken)
	defer p.Close()
	if p.OnCall().PolicyOf("oncall") == nil || broke(reg) != 1 {
		t.Error("after a start with a broken file the last good one is not in force, or nobody is told")
	}
	if err := p.ReloadWithOnCall(routes, []byte(rotaOfTwo)); err != nil || broke(reg) != 0 {
		t.Errorf("after the file is right again: %v", err)
	}
}

// TestOverride: it is in force at once, survives a restart, and ends.
func TestOverride(t *testing.T) {
	db, routes := openDB(t, t.TempDir()), channelsTo("http://127.0.0.1:1", "ada-ntfy", "jonas-ntfy")
	open := func() *Pager {
		t.Helper()
		p, err := Open(Options{DB: db, Config: routes, OnCall: []byte(rotaOfTwo)})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p, now := open(), time.Now()
	who := func() string { return p.OnCall().Rota("first").At(now).Person }
	o := oncall.Override{Rota: "first", Person: "jonas", From: now.Add(-time.Minute), To: now.Add(time.Hour), By: "mira"}
	id, err := p.Rotas().Override(t.Context(), o)
	if err != nil || who() != "jonas" {
		t.Fatalf("%s is on call, %v", who(), err)
	}
	p.Close()
	p = open()
	defer func() { p.Close() }()
	if who() != "jonas" {
		t.Errorf("after a restart %s is on call", who())
	}
	if err := p.ReloadWithOnCall(routes, []byte(rotaOfTwo)); err != nil || who() != "jonas" {
		t.Errorf("after a reload %s is on call, %v", who(), err)
	}
	if err := p.Rotas().EndOverride(t.Context(), id, "mira"); err != nil || who() != "ada" {
		t.Errorf("after its end %s is on call, %v", who(), err)
	}
	if err := p.Rotas().EndOverride(t.Context(), id, "mira"); !errors.Is(err, ErrNoOverride) {
		t.Errorf("a second end: %v", err)
	}
	for name, bad := range map[string]oncall.Override{
		"second": {Rota: "second", Person: "ada", From: o.From, To: o.To}, "eve": {Rota: "first", Person: "eve", From: o.From, To: o.To},
		"before it begins": {Rota: "first", Person: "ada", From: o.To, To: o.From}, "it ended": {Rota: "first", Person: "ada", From: o.From.Add(-time.Hour), To: o.From},
	} {
		if _, err := p.Rotas().Override(t.Context(), bad); !errors.Is(err, ErrBadOverride) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSwitchEscalates: 500 boards behind one switch are one message to whoever is on call, within 5 s.
func TestSwitchEscalates(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	places := alerttest.Fleet(2, 2, 500, nil)
	d := startStage(t, openDB(t, t.TempDir()), channelsTo(s.URL, "ada-ntfy"), places, nil)
	if err := d.pager.ReloadWithOnCall(channelsTo(s.URL, "ada-ntfy"), []byte(oneAda)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var gone []alert.Transition
	for _, b := range alerttest.BoardsIn(places, "r1-a") {
		gone = append(gone, alerttest.Silent(places, b, began))
	}
	if err := d.commit(gone); err != nil {
		t.Fatal(err)
	}
	h := s.next(t)
	t.Logf("the page left after %s", h.at.Sub(began)) // the benchmarks judge that: this machine may be busy
	if h.said() != "firing BoardSilent switch r1-a" {
		t.Errorf("page: %s", h.said())
	}
	d.pager.until(t, "delivered", pageState("delivered"))
	fence := alerttest.Silent(places, "r2-b-001", time.Now())
	delete(fence.Labels, "customer")
	if err := d.commit([]alert.Transition{fence}); err != nil {
		t.Fatal(err)
	}
	if h := s.next(t); h.said() != "firing BoardSilent r2-b-001" {
		t.Errorf("the second message is %s", h.said())
	}
}

// TestSilencedWhileItEscalates: a silence puts the next step off, and its end lets it go on.
func TestSilencedWhileItEscalates(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	p := startOnCall(t, channelsTo(s.URL, "ada-ntfy", "jonas-ntfy"), strings.Replace(rotaOfTwo, "[{notify: [first]}]", "[{notify: [first], wait: 3s}, {notify: [jonas]}]", 1))
	p.Deliver([]alert.Transition{alerttest.Fire("b1", time.Now())})
	s.next(t)
	id := silenceBoard(t, p.Pager, "b1")
	in := p.until(t, "paged", func(in incident.Incident) bool { return len(in.Pages) == 1 })
	var held incident.Event
	for held.Kind == "" {
		events, err := p.Timeline(t.Context(), in.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Kind == "held" {
				held = e
			}
		}
		if held.Kind == "" {
			p.until(t, "changed", func(incident.Incident) bool { return true })
		}
	}
	s.none(t, "while it is silenced")
	if err := p.am.silences.Expire(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if h := s.next(t); h.path != "/jonas-ntfy" {
		t.Errorf("after the silence: %s", h.path)
	}
}

func silenceBoard(t *testing.T, p *Pager, board string) string {
	t.Helper()
	now := time.Now().UTC()
	body := map[string]any{
		"matchers": []map[string]any{{"name": "board", "value": board, "isRegex": false, "isEqual": true}},
		"startsAt": now, "endsAt": now.Add(time.Hour), "createdBy": "ada", "comment": "c",
	}
	var answer struct{ SilenceID string }
	if err := json.Unmarshal(postJSON(t, p.Handler(), "/api/v2/silences", body), &answer); err != nil || answer.SilenceID == "" {
		t.Fatal(answer, err)
	}
	return answer.SilenceID
}

func postJSON(t *testing.T, h http.Handler, path string, body any) []byte {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(b))
	req.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	if rec.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, rec.Code, rec.Body)
	}
	return rec.Body.Bytes()
}
