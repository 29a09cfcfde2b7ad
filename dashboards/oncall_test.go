package dashboards

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"bramble/alerting/incident"
	"bramble/alerting/oncall"
)

// TestOnCallRoutes: the roles of each route, and the answers to wrong requests.
func TestOnCallRoutes(t *testing.T) {
	var did []string
	act := func(what string) func(context.Context, string, string, string) error {
		return func(_ context.Context, id, who, comment string) error {
			if id == "over" {
				return fmt.Errorf("%w: %w", ErrConflict, errors.New("it is over"))
			}
			if id != "7" {
				return ErrUnknownIncident
			}
			did = append(did, strings.Join([]string{what, id, who, comment}, " "))
			return nil
		}
	}
	snooze := act("snooze")
	o := parts{
		Auth: newTokens(), Acknowledge: act("ack"), Close: act("close"),
		Snooze: func(ctx context.Context, id, who, comment string, d time.Duration) error {
			return snooze(ctx, id, who, comment+" for "+d.String())
		},
		Override: func(_ context.Context, o oncall.Override) (int64, error) {
			if o.Rota != "first" {
				return 0, fmt.Errorf("%w: rota %q is not in oncall.yml", ErrBadRequest, o.Rota)
			}
			did = append(did, fmt.Sprint("override ", o.Person, " ", o.By, " ", o.To.Sub(o.From).Milliseconds()))
			return 3, nil
		},
		EndOverride: func(_ context.Context, id int64, who string) error {
			if id != 3 {
				return ErrUnknownOverride
			}
			did = append(did, "end by "+who)
			return nil
		},
	}
	_, web := start(t, o)
	f := func(path, token, body string, want int, says string) {
		t.Helper()
		resp, got := call{method: "POST", path: path, token: token, body: body}.do(t, web.URL)
		if resp.StatusCode != want || !strings.Contains(got, says) {
			t.Errorf("%s %s: %d %s, want %d and %q", path, body, resp.StatusCode, got, want, says)
		}
	}
	const mira = "operator-token"
	f("/api/incidents/7/snooze", "viewer-token", `{"for":"1h"}`, 403, "")
	f("/api/incidents/7/snooze", mira, `{"for":"1h","comment":"parts"}`, 200, `"by":"mira"`)
	f("/api/incidents/7/snooze", mira, `{"for":"1y"}`, 400, "1y")
	f("/api/incidents/7/snooze", mira, `{"for":"200h"}`, 400, "200h")
	f("/api/incidents/7/snooze", mira, `{"until":"1h"}`, 400, "until")
	f("/api/incidents/8/snooze", mira, `{"for":"1h"}`, 404, "no incident 8")
	f("/api/incidents/over/snooze", mira, `{"for":"1h"}`, 409, "it is over")
	f("/api/incidents/over/ack", mira, ``, 409, "it is over")
	f("/api/incidents/7/resolve", mira, `{"comment":"the fan"}`, 200, "")
	f("/api/incidents/7/resolve", mira, `{"for":"1h"}`, 400, "for")
	f("/api/incidents/7/resolve", "viewer-token", `{}`, 403, "")
	f("/api/oncall/overrides", mira, `{"rota":"first","person":"ada","from":"2026-03-01T09:00:00+01:00","to":"2026-03-01T10:00:00+01:00"}`, 200, `"id":3`)
	f("/api/oncall/overrides", mira, `{"rota":"x","person":"ada","to":"2026-03-01T10:00:00+01:00"}`, 400, "not in oncall.yml")
	f("/api/oncall/overrides", mira, `{"rota":"first","person":"ada","to":"tomorrow"}`, 400, "tomorrow")
	f("/api/oncall/overrides", "viewer-token", `{}`, 403, "")
	f("/api/oncall/overrides/3/end", mira, ``, 200, "")
	f("/api/oncall/overrides/4/end", mira, ``, 404, "no override 4")
	f("/api/oncall/overrides/x/end", mira, ``, 404, "no override x")
	want := "snooze 7 mira parts for 1h0m0s, close 7 mira the fan, override ada mira 3600000, end by mira"
	if got := strings.Join(did, ", "); got != want {
		t.Errorf("did %s\nwant %s", got, want)
	}
}

// TestBrowserOnCall: who is on call, where nobody is, and how somebody stands in; and what happened to an incident.
func TestBrowserOnCall(t *testing.T) {
	now := time.Now()
	ms := func(d time.Duration) int64 { return now.Add(d).UnixMilli() }
	set := make(chan oncall.Override, 1)
	acts := make(chan string, 2)
	in := Incident{ID: "7", Number: 7, Title: "r1-01: SoC at 84 °C", Severity: "critical", State: "firing", Since: ms(-time.Minute), EscalatesAt: ms(time.Minute), EscalatesTo: "jonas", Alerts: 1}
	o := parts{
		Open: true, Series: noHistory,
		OnCall: func() OnCall {
			gap := Shift{From: ms(20 * time.Hour), To: ms(30 * time.Hour), Starts: "Sat 28 Nov 08:00", Ends: "Sat 28 Nov 20:00", Zone: "CET"}
			return OnCall{
				Now: now.UnixMilli(), People: []OnCallPerson{{Name: "ada", Channels: []OnCallChannel{{"ada-ntfy", 0}, {"ada-sms", 120}}}},
				Rotas: []Rota{{
					Name: "first", Zone: "Europe/Berlin", Gaps: []Shift{gap},
					Shifts: []Shift{{From: ms(0), To: ms(20 * time.Hour), Person: "ada", Layer: "night", Starts: "Fri 27 Nov 20:00", Ends: "Sat 28 Nov 08:00", Zone: "CET"}, gap},
				}},
				Policies: []Policy{{Name: "default", Receivers: []string{"oncall"}, Steps: []PolicyStep{{Notify: []string{"first"}, Now: []string{"ada"}, WaitSeconds: 300}}, Repeat: 2, Fallback: "everybody"}},
			}
		},
		Override:  func(_ context.Context, o oncall.Override) (int64, error) { set <- o; return 1, nil },
		Incidents: func(context.Context) ([]Incident, error) { return []Incident{in}, nil },
		Incident: func(context.Context, string) (Incident, []incident.Event, error) {
			return in, []incident.Event{
				{At: ms(-time.Minute), Kind: "step", Text: "step 1 of 2 pages ada"},
				{At: ms(-59 * time.Second), Kind: "page", Who: "ada", Page: &incident.Page{Person: "ada", Receiver: "ada-ntfy", Integration: "webhook", State: "delivered", LatencyMs: 15}},
				{At: ms(time.Minute), Kind: "next", Text: "step 2 of 2 pages jonas"},
			}, nil
		},
		Snooze: func(_ context.Context, id, _, _ string, d time.Duration) error {
			acts <- "snooze " + id + " " + d.String()
			return nil
		},
		Close: func(_ context.Context, id, _, comment string) error {
			acts <- "close " + id + " " + comment
			return nil
		},
	}
	_, web := start(t, o)
	b := openTab(t, web.URL)
	b.zone("Asia/Kolkata")
	b.open("/oncall")
	inIndia := func(d time.Duration) string {
		return now.Add(d).In(time.FixedZone("GMT+5:30", 19_800)).Format("Mon 2 Jan 15:04")
	}
	b.text("#oncall-gaps", "Nobody is on call in first from "+inIndia(20*time.Hour)+" to "+inIndia(30*time.Hour)+" GMT+5:30")
	b.text(".shifts", "planned in Europe/Berlin time")
	b.text(".rota .now", "ada")
	b.text(".rota", "then nobody")
	b.text(".policy", "ada: ada-ntfy, ada-sms after 2 m 00 s")
	b.text(".policy", "from the start, 2 more times, then to everybody")
	b.click(`.override-form button`)
	if got := <-set; got.Rota != "first" || got.Person != "ada" || got.To.Sub(got.From) != 8*time.Hour {
		t.Errorf("override %+v", got)
	}
	b.open("/incidents?id=7")
	b.text("#incident-detail", "ada by ada-ntfy: delivered, 15 ms after it fired")
	b.text("#incident-detail", "step 2 of 2 pages jonas")
	b.text(".inc", "Escalates to jonas in")
	b.click(`[data-snooze="7"]`)
	if got := <-acts; got != "snooze 7 30m0s" {
		t.Errorf("did %s", got)
	}
	b.do(chromedp.SendKeys(chromedp.CSS(`#incident-detail .ack-box input`), "the fan"))
	b.click(`[data-close="7"]`)
	if got := <-acts; got != "close 7 the fan" {
		t.Errorf("did %s", got)
	}
	b.clean()
}

func FuzzOverride(f *testing.F) {
	f.Add([]byte(overrideForm))
	f.Add([]byte(`{"to":"2026-03-01T18:00:00+01:00"}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if o, err := decodeOverride(data, time.UnixMilli(1)); err == nil && o.From.IsZero() && o.To.IsZero() {
			t.Errorf("%q has no time", data)
		}
	})
}

func FuzzSnooze(f *testing.F) {
	f.Add([]byte(`{"for":"1h","comment":"x"}`))
	f.Add([]byte(`{"for":"-1h"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if d, comment, err := decodeSnooze(data); err == nil && (d <= 0 || d > maxSnooze || len(comment) > maxComment) {
			t.Errorf("%q: %s %d", data, d, len(comment))
		}
	})
}
