package dashboards

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/maintenance"
	"bramble/alerting/oncall"
	"bramble/dashboards/live/livetest"
)

// sheet is one page as the owner of a token sees it, nobody where it is empty. It is complete when the selector finds the
// text.
type sheet struct {
	name, origin, path, token string
	selector, text            string
}

// sheets serves every page that there is, full of long words, and pages without anything.
func sheets(t *testing.T) []sheet {
	t.Helper()
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).UnixMilli() }
	const long = "rack-with-a-long-name-07-switch-b"
	boards := func() []Board {
		all := threeBoards()
		for i := range 9 {
			labels := map[string]string{"rack": fmt.Sprintf("hall-2-%02d", i%9), "switch": fmt.Sprintf("hall-2-%02d-a", i%9), "customer": "Kelp & Company, Incorporated", "model": "Raspberry Pi 3 Model B Plus Rev 1.3"}
			all = append(all, Board{Name: fmt.Sprintf("%s-%02d", long, i), Labels: labels, Enrolled: true, EnrolledAt: at(-time.Hour), LastReport: now, Rejected: map[string]uint64{"foreign": 12345}})
		}
		return all
	}
	clockTime := now.Add(-4 * time.Minute).UTC().Format("15:04:05 UTC")
	incidents := []Incident{
		{ID: "9", Number: 12009, Title: "Switch " + long + ": 24 of 24 boards silent since " + clockTime, Severity: "critical", State: "firing", Since: at(-4 * time.Minute), Alerts: 24, Boards: []string{"r1-01", "r1-02", long + "-01"}, Reason: "Its last report came at " + clockTime + ", and every other switch of the rack reports.", Detail: "The boards have no network.", Runbook: "Look at the switch.", Now: "condition over since " + clockTime + ", now 71.2 °C", EscalatesAt: at(5 * time.Minute), EscalatesTo: "jonas"},
		{ID: "8", Number: 12008, Title: "r1-01: SoC at 84 °C", Severity: "warning", State: "acknowledged", Since: at(-time.Hour), AcknowledgedAt: at(-50 * time.Minute), AcknowledgedBy: "mira-with-a-long-name", SnoozedUntil: at(time.Hour), Comment: "the fan", Alerts: 1},
		{ID: "7", Number: 12007, Title: "r1-02: under-voltage", Severity: "critical", State: "resolved", Since: at(-5 * time.Hour), ResolvedAt: at(-4 * time.Hour), Alerts: 2, Closing: "a new cable"},
		{ID: "6", Number: 12006, Title: "r1-02: warm", Severity: "warning", State: "firing", Since: at(-time.Minute), Alerts: 1, PagesNobody: true},
	}
	shift := func(from, to time.Duration, who string) Shift {
		return Shift{From: at(from), To: at(to), Person: who, Layer: "night", Starts: now.Add(from).UTC().Format("Mon 2 Jan 15:04"), Ends: now.Add(to).UTC().Format("Mon 2 Jan 15:04"), Zone: "CET"}
	}
	var beats []string
	links := &linkTable{incident: incidents[0]}
	own := leasehold()
	own.Alerts = func(context.Context, string) ([]OwnAlert, error) {
		return []OwnAlert{{Board: "r1-02", Name: "hot", Since: at(-time.Minute), Threshold: true}, {Board: "r1-02", Name: "Throttled", Severity: "critical", Since: at(-time.Hour), Until: at(-time.Minute)}}, nil
	}
	own.Settings.Get = func(context.Context, string) (OwnBook, error) {
		return OwnBook{
			Customer: "Kelp & Co", Mail: true, Waiting: 2, WaitingUntil: at(time.Hour), Limits: map[string]int{"mailsAnHour": 20, "mailsADay": 100},
			Thresholds: []OwnThreshold{{Kind: "hot", Value: 75, Hysteresis: 3, For: "30s", KeepFiringFor: "2m"}}, Kinds: []OwnKind{{Name: "hot", Min: 30, Max: 110}},
			Contacts: []OwnContact{{ID: "c1", Address: "somebody.with.a.long.name@subdomain.example.org", AskedAt: 1}},
		}, nil
	}
	o := parts{
		Auth: ofCustomers(), Own: own, Boards: boards, Series: noHistory, Version: "0.9.0-rc.1",
		Rejected: func() map[string]uint64 { return map[string]uint64{"foreign": 3, "bad_signature": 12345} },
		Counts:   func() map[string]uint64 { return map[string]uint64{"readings": 1234567890, "reports": 98765432} },
		Backups: func() Backups {
			return Backups{Target: "/mnt/nas/bramble", EverySeconds: 86400, Kept: []Backup{{Name: "20261124T030000Z.backup", Taken: at(-time.Hour), Bytes: 1 << 30, Rows: 1e9, Good: true, TestedAt: at(-time.Minute)}}}
		},
		Incidents: func(context.Context) ([]Incident, error) { return incidents, nil },
		Incident: func(context.Context, string) (Incident, []incident.Event, error) {
			return incidents[0], []incident.Event{
				{At: at(-4 * time.Minute), Kind: "opened", Text: "no report since " + clockTime},
				{At: at(-3 * time.Minute), Kind: "page", Page: &incident.Page{Person: "ada", Receiver: "ada-ntfy", Integration: "webhook", State: "failed", Error: "503 Service Unavailable: https://ntfy.example.org/a-topic-with-a-long-name-and-no-space"}},
				{At: at(5 * time.Minute), Kind: "next", Text: "step 2 of 2 pages jonas"},
			}, nil
		},
		Acknowledge: func(context.Context, string, string, string) error { return nil },
		Snooze:      func(context.Context, string, string, string, time.Duration) error { return nil },
		Close:       func(context.Context, string, string, string) error { return nil },
		Links:       links.links(), Watcher: watcher(&beats),
		Off: func() alert.OffReport {
			return alert.OffReport{Now: at(0), Boards: 24, Rules: 2, Items: []alert.Off{
				{Kind: alert.OffMaintenance, What: `24 boards, switch="` + long + `"`, Why: "maintenance 4, until " + clockTime + " (23:59 CET)", By: "mira", Until: at(time.Hour), Boards: []string{long + "-01", long + "-02", "r1-02"}},
				{Kind: alert.OffReceiver, What: "whatever goes to receiver sms", Why: "webhook takes no page: 503"},
			}}
		},
		Maintenance: &maintenances{List: func(context.Context) ([]maintenance.Maintenance, error) {
			return []maintenance.Maintenance{{Number: 4, State: maintenance.Running, Matchers: []string{`switch="` + long + `"`}, StartsAt: at(0), EndsAt: at(time.Hour), By: "mira", Boards: 24, Comment: "new PSU"}}, nil
		}},
		OnCall: func() OnCall {
			return OnCall{
				Now: at(0), People: []OnCallPerson{{Name: "ada", Channels: []OnCallChannel{{"ada-ntfy", 0}, {"ada-sms", 120}}}},
				Rotas: []Rota{{
					Name: "first", Zone: "Europe/Berlin", Shifts: []Shift{shift(0, 8*time.Hour, "ada"), shift(8*time.Hour, 20*time.Hour, ""), shift(20*time.Hour, 60*time.Hour, "somebody-with-a-long-name")}, Gaps: []Shift{shift(8*time.Hour, 20*time.Hour, "")},
					Overrides: []oncall.Override{{ID: 1, Rota: "first", Person: "ada", From: now.Add(time.Hour), To: now.Add(2 * time.Hour), By: "mira"}},
				}},
				Policies: []Policy{{Name: "default", Receivers: []string{"oncall"}, Steps: []PolicyStep{{Notify: []string{"first"}, Now: []string{"ada"}, WaitSeconds: 300}}, Repeat: 2, Fallback: "everybody"}},
			}
		},
		Override: func(context.Context, oncall.Override) (int64, error) { return 1, nil },
	}
	s, web := start(t, o)
	for _, board := range boards() {
		s.Hub().Publish(board.Name, at(0), full(83.8, 1.4e9, 6e8, 1))
	}
	demo, empty := o, o
	demo.Auth, demo.Own, demo.Open = nil, nil, true
	demo.Demo = &Demo{
		HistoryEnds: now.Add(-time.Hour),
		Faults: func() []Fault {
			return []Fault{{At: now.Add(time.Hour), What: "the switch of hall-2-04 goes away"}, {At: now.Add(2 * time.Hour), What: "a fan stops"}}
		},
		Inbox: func() []Received {
			return []Received{{At: now, ID: "key-9", To: "ada", Subject: incidents[0].Title, Headers: map[string]string{"Idempotency-Key": "a-key-with-" + long}, Body: `{"n":1}`, IncidentID: "9"}}
		},
	}
	_, ofDemo := start(t, demo)
	empty.Boards = func() []Board { return nil }
	empty.Incidents, empty.Incident, empty.Off, empty.Maintenance, empty.Watcher, empty.OnCall, empty.Own, empty.Backups = nil, nil, nil, nil, nil, nil, leasehold(), nil
	empty.Own.Settings.Get = func(context.Context, string) (OwnBook, error) {
		return OwnBook{Thresholds: []OwnThreshold{}, Contacts: []OwnContact{}, Kinds: []OwnKind{{Name: "hot", Min: 30, Max: 110}}}, nil
	}
	_, ofNobody := start(t, empty)
	const operator, customer = "operator-token", "kelp-token"
	return []sheet{
		{"fleet", web.URL, "/", operator, `#map .board-cell[data-temperature="83.8"]`, ""},
		{"nothing", web.URL, "/?q=nowhere", operator, "#empty", "None of"},
		{"empty", ofNobody.URL, "/", operator, "#empty", "No boards yet"},
		{"no-incidents", ofNobody.URL, "/incidents", operator, "#incident-list", "Nothing is firing"},
		{"no-rotas", ofNobody.URL, "/oncall", operator, "#oncall-rotas", "There is no oncall.yml"},
		{"nothing-off", ofNobody.URL, "/off", operator, "#off-list", "No silence"},
		{"no-heartbeats", ofNobody.URL, "/watch", operator, "#heartbeat-list", "None yet"},
		{"no-own", ofNobody.URL, "/own", customer, "#threshold-list", "None"},
		{"demo", ofDemo.URL, "/", "", "#inbox", "as received"},
		{"board", web.URL, "/board/r1-01", operator, "#board-head", "83.8 °C"},
		{"range", web.URL, "/board/r1-01?from=1500000000000&to=1500003600000", operator, ".graph-state", "No readings"},
		{"incidents", web.URL, "/incidents?id=9", operator, "#incident-detail .sent", "Next"},
		{"oncall", web.URL, "/oncall", operator, ".override-list", "ada"},
		{"off", web.URL, "/off", operator, "#maintenance-list", "new PSU"},
		{"watch", web.URL, "/watch", operator, "#heartbeat-list", "nightly"},
		{"unknown", web.URL, "/board/none", operator, "h1", "No such board"},
		{"login", web.URL, "/login", "", "h1", "Log in"},
		{"ack", web.URL, "/ack/good", "", "h1", "Switch"},
		{"old", web.URL, "/ack/old", "", "h1", ""},
		{"own", web.URL, "/own", customer, "#own-alerts", "your threshold"},
		{"ownboard", web.URL, "/own/board/r1-02", customer, "#board-head", "83.8 °C"},
		{"owncontact", web.URL, "/own/contact/good", "", "h1", "Kelp"},
	}
}

// see opens a page as its reader has it, and waits until it is complete.
func (b *tab) see(p sheet) {
	b.Helper()
	if _, err := chromedp.Call(b.ctx, network.SetCookie, network.SetCookieParams{Name: "bramble", Value: p.token, URL: p.origin}); err != nil {
		b.Fatal(err)
	}
	b.visit(p.origin, p.path)
	b.text(p.selector, p.text)
	b.until(`!document.getElementById("live-status") || document.getElementById("live-status").dataset.state === "live"`, "document.body.textContent")
}

// settled runs JavaScript after the page was laid out and its observers of sizes were told.
func settled[T any](b *tab, js string) T {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, livetest.Patience)
	defer cancel()
	got, err := chromedp.Run(ctx, chromedp.Evaluate[T](`new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(`+js+`))))`, chromedp.EvalAwaitPromise))
	if err != nil {
		b.Fatalf("%s: %v", js, err)
	}
	return got
}

// widths are the narrow ends of the layouts, and those of a phone and of a zoom of 200 %.
var widths = []int64{320, 390, 599, 600, 640, 700, 790, 900, 1100, 1440}

// TestBrowserEveryPage goes over every page: at each width it fits and shows Find and Log out, axe finds nothing
// serious on any, and every time of a view is in the zone of its reader, which is named.
func TestBrowserEveryPage(t *testing.T) {
	axe, err := os.ReadFile("testdata/axe-core/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	b := openTab(t, "http://localhost")
	b.zone("Asia/Kolkata")
	for _, p := range sheets(t) {
		b.judge(p, string(axe))
	}
}

// zone moves the browser to a time zone.
func (b *tab) zone(name string) {
	b.Helper()
	if _, err := chromedp.Call(b.ctx, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: name}); err != nil {
		b.Fatal(err)
	}
}

// judge looks at one page in both themes and at every width.
func (b *tab) judge(p sheet, axe string) {
	b.Helper()
	b.size(1440, 900, "dark")
	b.see(p)
	b.axe(p.name+", dark", axe, "{}")
	b.shot(p.name, 1440, "dark")
	if p.name != "ack" { // works without script, and so in UTC
		const foreign = `[...document.querySelectorAll("body *")].filter((n) => !n.firstElementChild && !n.closest(".mail") && n.checkVisibility() && /UTC|CET/.test(n.textContent)).map((n) => n.textContent)`
		if found := settled[[]string](b, foreign); len(found) > 0 {
			b.Errorf("%s has times of another zone: %q", p.name, found)
		}
		b.until(`(document.getElementById("clock")?.textContent ?? "GMT+5:30").includes("GMT+5:30")`, `document.getElementById("clock").textContent`)
	}
	b.size(1440, 900, "light")
	faults := tooWide
	if p.token == "operator-token" {
		faults = "(" + tooWide + ") + " + hidden
	}
	for _, width := range widths {
		if err := chromedp.Do(b.ctx, chromedp.EmulateViewport(width, 900)); err != nil {
			b.Fatal(err)
		}
		if faults := settled[string](b, faults); faults != "" {
			b.Errorf("%s at %d px: %s", p.name, width, faults)
		}
		if width == 390 {
			b.axe(p.name+", 390 px", axe, `{runOnly: ["color-contrast", "link-in-text-block", "scrollable-region-focusable", "target-size"]}`) // the rest is the same
		}
		if width == 390 || width == 700 || width == 1440 {
			b.shot(p.name, width, "light")
		}
	}
}

// tooWide names the elements that make a page wider than the window.
const tooWide = `document.documentElement.scrollWidth <= innerWidth ? "" : "too wide: page" + [...document.querySelectorAll("body *")].filter((n) => {
	if (n.getBoundingClientRect().right <= innerWidth) return false;
	for (let p = n.parentElement; p; p = p.parentElement) if (getComputedStyle(p).overflowX !== "visible") return false;
	return true;
}).map((n) => " " + n.tagName + "." + (n.getAttribute("class") ?? "")).slice(0, 8)`

// hidden says when a page of an operator does not show Find and Log out.
const hidden = `(document.getElementById("find").checkVisibility() && document.querySelector(".who button").checkVisibility() ? "" : " Find or Log out is hidden")`

// axe reports the serious and critical findings of axe-core, run with options.
func (b *tab) axe(page, source, options string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, livetest.Patience)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Evaluate[*runtime.RemoteObject]("window.axe ?? (() => {"+source+"})()"))
	if err != nil {
		b.Fatalf("%s: load axe: %v", page, err)
	}
	run := `axe.run({resultTypes: ["violations"], ...` + options + `}).then((r) => r.violations.filter((v) => v.impact === "serious" || v.impact === "critical")
		.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.target.join(" ") + ": " + n.failureSummary)))`
	found, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](run, chromedp.EvalAwaitPromise))
	if err != nil {
		b.Fatalf("%s: run axe: %v", page, err)
	}
	if len(found) > 0 {
		b.Errorf("%s: %d faults: %s", page, len(found), strings.Join(found[:min(4, len(found))], "\n"))
	}
}

// TestBrowserZoomMovesNothing drags over a graph, and finds all graphs where they were.
func TestBrowserZoomMovesNothing(t *testing.T) {
	s, web := start(t, parts{Open: true, Series: noHistory})
	s.Hub().Publish("r1-01", time.Now().UnixMilli(), full(61, 1.2e9, 1.2e9, 0))
	b := openTab(t, web.URL)
	const places = `[...document.querySelectorAll(".graph, .u-over")].map((n) => { const r = n.getBoundingClientRect(); return [r.left, r.top, r.width, r.height].join() }).join(" ")`
	for _, width := range []int64{390, 700, 1440} {
		b.size(width, 1200, "light")
		for _, q := range []string{"", "?range=2y"} { // a time of today, and two with their years
			b.open("/board/r1-01" + q)
			b.text("#live-status", "Live")
			b.text(".range-text", "–")
			before := settled[string](b, places)
			over := settled[[]float64](b, `(({left, top, width, height}) => [left + width / 4, top + height / 2, left + width / 2])(document.querySelector(".u-over").getBoundingClientRect())`)
			for _, e := range []input.DispatchMouseEventParams{
				{Type: "mouseMoved", X: over[0], Y: over[1]},
				{Type: "mousePressed", X: over[0], Y: over[1], Button: "left", ClickCount: 1},
				{Type: "mouseMoved", X: over[2], Y: over[1], Button: "left", Buttons: 1},
				{Type: "mouseReleased", X: over[2], Y: over[1], Button: "left", ClickCount: 1},
			} {
				if _, err := chromedp.Call(b.ctx, input.DispatchMouseEvent, e); err != nil {
					t.Fatal(err)
				}
			}
			b.until(`location.search.includes("from=")`, "location.href")
			b.until(`document.querySelector(".range-bar.paused button")?.checkVisibility()`, `document.querySelector(".range-bar").outerHTML`)
			if after := settled[string](b, places); after != before {
				t.Errorf("%d px, %q: zooming moves the graphs from %s to %s", width, q, before, after)
			}
			b.shot("zoomed"+strings.TrimPrefix(q, "?range="), width, "light")
			b.click(".range-bar button")
			b.until(`!location.search.includes("from=")`, "location.href")
			if after := settled[string](b, places); after != before {
				t.Errorf("%d px, %q: going back moves the graphs from %s to %s", width, q, before, after)
			}
		}
	}
	b.clean()
}
