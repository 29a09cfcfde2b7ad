package dashboards

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/maintenance"
	"bramble/alerting/oncall"
)

// TestBrowserUnknownIsNoOutage: a board that has not reported yet, a range that cannot be read and a range of another time
// look different from each other, and none of them like an outage.
func TestBrowserUnknownIsNoOutage(t *testing.T) {
	now := time.Now()
	var broken atomic.Bool
	series := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			http.Error(w, `{"error":"the store is being repaired"}`, http.StatusServiceUnavailable)
			return
		}
		noHistory(w, r)
	})
	s, web := start(t, parts{Open: true, Series: series, Boards: func() []Board {
		enrolled := now.Add(-5 * time.Minute).UnixMilli()
		return []Board{
			{Name: "new", Enrolled: true, EnrolledAt: enrolled},
			{Name: "old", Enrolled: true, EnrolledAt: enrolled, LastReport: now.Add(-4 * time.Minute)},
		}
	}})
	b := openTab(t, web.URL)
	text := func() string { return `document.querySelector(".summary-text").textContent` }
	isOutage := `/gap|not measured|no temperature/.test(` + text() + `)`
	hatch := inkOf("temperature", "line-strong", 14) // the lines of the axes are lighter
	hatched := hatch + " > 1000"
	state := func(want string) {
		b.Helper()
		b.until(fmt.Sprintf(`document.getElementById("graphs").dataset.state === %q`, want), `document.getElementById("graphs").dataset.state`)
	}

	b.open("/board/new")
	state("waiting")
	b.text(".graph-state", "Waiting for the first reading")
	b.text(".graph-state", "new was enrolled ")
	b.text(".summary-text", "no reading yet")
	b.text(`[data-field="state"]`, "has never reported")
	b.until("!("+isOutage+") && !("+hatched+")", text()+" + "+hatch)
	b.shots("waiting")
	s.Hub().Publish("new", time.Now().UnixMilli(), full(61.2, 1.2e9, 1.2e9, 0))
	state("shown")
	b.until(`document.querySelector(".graph-state").hidden`, `document.querySelector(".graph-state").textContent`)

	// The board has been silent since it reported: an outage.
	b.open("/board/old")
	b.text(".summary-text", "no readings.")
	b.until(hatched, hatch)
	b.shots("outage")

	b.open(fmt.Sprintf("/board/old?from=%d&to=%d", int64(1_500_000_000_000), int64(1_500_003_600_000)))
	state("empty")
	b.text(".graph-state", "No readings in this range")
	b.text(".graph-state", "It ends before old was enrolled")
	b.text(".paused", "A range of the past")
	b.until("!("+isOutage+") && !("+hatched+") && !document.body.textContent.includes('behind')", text())
	b.shots("empty")
	b.clean()

	broken.Store(true)
	b.open("/board/old")
	state("unread")
	b.text(".graph-state", "15 m of old could not be read")
	b.text(".graph-state", "The store is being repaired")
	b.text(".summary-text", "could not be read.")
	b.until("!("+isOutage+") && !("+hatched+")", text())
	b.shots("failed")
	broken.Store(false)
	b.click(".graph-state button")
	b.text(".summary-text", "no readings.")
	b.until(hatched, hatch)
}

// TestBrowserStoppedBoard: a sensor that was stopped properly is neither silent nor a board that has never reported.
func TestBrowserStoppedBoard(t *testing.T) {
	auth := ofCustomers()
	auth.passwords["kim"] = "secret"
	auth.session = "kelp-token"
	last := time.Now().Add(-time.Minute)
	o := parts{Open: true, Series: noHistory, Boards: func() []Board {
		boards := threeBoards()
		boards[0].LastReport = last
		return boards
	}}
	operator, web := start(t, o)
	own := leasehold()
	own.Settings.Get = func(context.Context, string) (OwnBook, error) {
		return OwnBook{Thresholds: []OwnThreshold{}, Contacts: []OwnContact{}, Kinds: []OwnKind{{Name: "hot", Min: 30, Max: 110}}}, nil
	}
	o.Open, o.Auth, o.Own = false, auth, own
	customer, ofCustomer := start(t, o)
	for _, s := range []*Server{operator, customer} {
		s.Hub().Publish("r1-02", last.UnixMilli(), full(61.2, 1.2e9, 1.2e9, 1))
		s.Hub().Publish("r1-02", last.UnixMilli()+1, of(readings{"pi_board_up": math.NaN()}))
	}
	for _, path := range []string{"/api/boards", "/api/boards/r1-02"} {
		_, got := call{path: path}.do(t, web.URL)
		if want := `"stopped":true`; !strings.Contains(got, want) {
			t.Errorf("%s: %s does not say %s", path, got, want)
		}
	}
	stopped := "Stopped, last report " + last.Format("15:04:05")
	b := openTab(t, web.URL)
	b.open("/?view=table")
	b.text(cellOf("r1-02", "up"), "stopped")
	b.text(cellOf("r1-02", "temperature"), "—")
	b.text(cellOf("r1-02", "reported"), last.Format("15:04:05"))
	b.text(`[data-figure="boards"]`, "1 stopped, 1 never reported")
	b.text(`[data-figure="throttled"]`, "0")
	b.shots("stopped-fleet")
	b.open("/board/r1-02")
	b.text(`[data-field="state"]`, stopped)
	b.text(`.fig [data-field="temperature"]`, "—")
	b.shots("stopped-board")
	operator.Hub().Publish("r1-02", time.Now().UnixMilli(), full(62, 1.2e9, 1.2e9, 0))
	b.text(`.fig [data-field="temperature"]`, "62.0 °C")
	b.until(`!document.querySelector("#board-head").textContent.includes("Stopped")`, `document.querySelector("#board-head").textContent`)

	b.visit(ofCustomer.URL, "/own")
	b.do(chromedp.SendKeys("input[name=name]", "kim"), chromedp.SendKeys("input[name=password]", "secret"), chromedp.Click("button"))
	b.text("[data-board=r1-02]", "stopped")
	b.open("/own/board/r1-02")
	b.text("#board-head", stopped)
	b.clean()
}

// leaving is a listener whose other side can be told that nobody is there.
type leaving struct {
	net.Listener

	mu    sync.Mutex
	away  bool
	conns []net.Conn
}

func (l *leaving) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away {
		return c, c.Close()
	}
	l.conns = append(l.conns, c)
	return c, nil
}

// leave cuts all connections, and each new one until it is undone.
func (l *leaving) leave(away bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = away
	for _, c := range l.conns {
		_ = c.Close() // the other side may have been first
	}
	l.conns = nil
}

// TestBrowserActsWhileTheCollectorIsAway does on each page what can be done there while nobody answers: each act says that it
// was not done and why, keeps what was typed, and is done when it is repeated.
func TestBrowserActsWhileTheCollectorIsAway(t *testing.T) {
	happened := make(chan string, 10)
	done := func(what string) { happened <- what }
	var beats []string
	watch := watcher(&beats)
	watch.Test = func(context.Context, string, string) (alert.PageTest, error) {
		done("test")
		return alert.PageTest{Number: 3, Receiver: "mail"}, nil
	}
	watch.Remove = func(context.Context, string) error { done("remove"); return nil }
	now := time.Now().UnixMilli()
	o := parts{
		Open: true, Series: noHistory, Watcher: watch,
		Off: func() alert.OffReport { return alert.OffReport{Now: now, Items: []alert.Off{}} },
		Maintenance: &maintenances{
			List: func(context.Context) ([]maintenance.Maintenance, error) {
				return []maintenance.Maintenance{{Number: 4, State: maintenance.Running, Matchers: []string{`rack="r7"`}}}, nil
			},
			Start: func(context.Context, maintenance.Request) (maintenance.Maintenance, error) {
				done("start")
				return maintenance.Maintenance{Number: 5, EndsAt: now + 7_200_000}, nil
			},
			End: func(_ context.Context, n int64, _ string) (maintenance.Maintenance, error) {
				done("end")
				return maintenance.Maintenance{Number: n}, nil
			},
		},
		OnCall: func() OnCall {
			return OnCall{Now: now, People: []OnCallPerson{{Name: "mira"}}, Rotas: []Rota{{Name: "first", Zone: "UTC", Shifts: []Shift{{From: now, To: now + 3_600_000, Person: "mira", Starts: "now", Ends: "then", Zone: "UTC"}}, Gaps: []Shift{}}}, Policies: []Policy{}}
		},
		Override: func(context.Context, oncall.Override) (int64, error) { done("override"); return 1, nil },
		Incidents: func(context.Context) ([]Incident, error) {
			return []Incident{{ID: "7", Number: 7, Title: "r1-01: hot", Severity: "critical", State: "firing", Since: now, Alerts: 1}}, nil
		},
		Incident: func(context.Context, string) (Incident, []incident.Event, error) {
			return Incident{ID: "7"}, []incident.Event{}, nil
		},
		Snooze:      func(context.Context, string, string, string, time.Duration) error { done("snooze"); return nil },
		Close:       func(context.Context, string, string, string) error { done("resolve"); return nil },
		Acknowledge: func(context.Context, string, string, string) error { done("acknowledge"); return nil },
		Watch:       func(string, string, time.Duration) error { done("watch"); return nil },
	}
	web, link := leavingServer(t, o)
	b := openTab(t, web)
	const notDone = "Not done: the collector does not answer"
	type act struct{ name, fill, button, said, done string }
	for _, page := range []struct {
		path, loaded, stale string
		acts                []act
	}{
		{"/off", "#maintenance-list li", "#maintenance-list", []act{
			{"start", `const f = document.getElementById("maintenance-form"); f.value.value = "r7"; f.for.value = "2h"`, "#maintenance-go", "#maintenance-said", "Maintenance 5 until"},
			{"end", "", "#maintenance-list button", "#maintenance-said", "Maintenance 4 is over"},
		}},
		{"/watch", "#heartbeat-list li", "#heartbeat-list", []act{
			{"test", "", "#test-go", "#test-said", "Test page 3 is on its way to mail"},
			{"remove", "", "#heartbeat-list button", "#heartbeat-said", "east is not waited for"},
		}},
		{"/oncall", ".override-form", "#oncall-rotas", []act{{"override", "", ".override-form button", "#override-said", "Set."}}},
		{"/incidents", "[data-ack]", "#incident-list", []act{
			{"snooze", "", "[data-snooze]", "#incident-said", "Snoozed"},
			{"resolve", "", "[data-close]", "#incident-said", "Done."},
			{"acknowledge", "", "[data-ack]", "#incident-detail", ""},
		}},
		{"/board/r1-01", "#live-toggle", "#board-head", []act{{"watch", "", "#live-toggle", "#live-toggle", "you are watching"}}},
	} {
		b.open(page.path)
		b.text("#live-status", "Live")
		b.until(fmt.Sprintf(`document.querySelector(%q)?.checkVisibility()`, page.loaded), "document.body.textContent")
		link.leave(true)
		b.text("#stale", "Collector unreachable")
		b.until(fmt.Sprintf(`document.querySelector(%q).dataset.stale?.startsWith("as of ")`, page.stale), "document.body.innerHTML")
		for _, a := range page.acts {
			b.script("{" + a.fill + "}")
			b.script(`for (const said of document.querySelectorAll("[role=status]")) if (said.id.endsWith("-said")) said.textContent = ""`)
			b.click(a.button)
			b.text(a.said, notDone)
		}
		b.shots("away-" + page.acts[0].name)
		if len(happened) != 0 {
			t.Fatalf("%s was done while nobody answered", <-happened)
		}
		link.leave(false)
		b.script(`document.querySelector("#stale button").click()`)
		b.text("#live-status", "Live")
		for _, a := range page.acts {
			if a.name != "acknowledge" && a.name != "watch" { // these repeat themselves
				b.click(a.button) // the typed text is still there
			}
			if a.done != "" {
				b.text(a.said, a.done)
			}
		}
		for range page.acts {
			select {
			case <-happened:
			case <-time.After(time.Minute):
				t.Fatalf("%s: not all was done", page.path)
			}
		}
	}

	// A range that nobody reads now: nothing claims to go on.
	b.open("/board/r1-01")
	b.text("#live-status", "Live")
	link.leave(true)
	b.text("#stale", "Collector unreachable")
	b.click(`[data-range="24h"]`)
	b.text(".graph-state", "24 h of r1-01 could not be read")
	b.until(`!document.body.textContent.includes("go on")`, "document.body.textContent")
	b.shots("away-board")
}

// TestBrowserLoginWhileTheCollectorIsAway: the form stays, and says that nobody answered.
func TestBrowserLoginWhileTheCollectorIsAway(t *testing.T) {
	web, link := leavingServer(t, parts{Auth: newTokens(), Series: noHistory})
	b := openTab(t, web)
	b.open("/login")
	b.do(chromedp.SendKeys("input[name=name]", "mira"), chromedp.SendKeys("input[name=password]", "secret"))
	link.leave(true)
	b.click("button.primary")
	b.text(".not-done", "Not done: the collector does not answer")
	b.shots("away-login")
	link.leave(false)
	b.click("button.primary")
	b.text("#live-status", "Live")
}

// leavingServer starts a server that can be made not to answer.
func leavingServer(t *testing.T, o parts) (url string, link *leaving) {
	t.Helper()
	o.Boards, o.Log = twoBoards, quiet()
	s, err := New(o.options())
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(s.Handler())
	link = &leaving{Listener: web.Listener}
	web.Listener = link
	web.Start()
	t.Cleanup(func() {
		s.Close()
		web.Close()
	})
	return web.URL, link
}

// TestBrowserAnOldIncident opens links to an incident that is no longer in the list, and to one that is not kept: neither
// shows another one.
func TestBrowserAnOldIncident(t *testing.T) {
	now := time.Now().UnixMilli()
	o := parts{
		Open: true, Series: noHistory, Boards: twoBoards,
		Incidents: func(context.Context) ([]Incident, error) {
			return []Incident{{ID: "new", Number: 99, Title: "Board a is hot", Severity: "critical", State: "firing", Since: now}}, nil
		},
		Incident: func(_ context.Context, id string) (Incident, []incident.Event, error) {
			switch id {
			case "new":
				return Incident{ID: "new", Number: 99, Title: "Board a is hot", Severity: "critical", State: "firing", Since: now}, nil, nil
			case "old":
				return Incident{ID: "old", Number: 3, Title: "Board b was hot", Severity: "critical", State: "resolved", Since: 1, ResolvedAt: 2}, []incident.Event{{At: 1, Kind: "opened", Text: "above 85 °C"}}, nil
			}
			return Incident{}, nil, ErrUnknownIncident
		},
	}
	_, web := start(t, o)
	b := openTab(t, web.URL)
	b.open("/incidents?id=old")
	b.text("#incident-list", "Board a is hot")
	b.text("#incident-detail h2", "Board b was hot")
	b.text("#incident-detail", "above 85 °C")
	b.open("/incidents?id=none")
	b.text("#incident-detail h2", "No such incident")
	b.faults = nil // the refusal was asked for
	b.do(chromedp.Click(chromedp.CSS(`[data-incident="new"]`)))
	b.text("#incident-detail h2", "Board a is hot")
	b.open("/incidents")
	b.text("#incident-detail h2", "Board a is hot")
}

// TestBrowserABoardWithoutARack has no link to one.
func TestBrowserABoardWithoutARack(t *testing.T) {
	boards := func() []Board {
		return []Board{{Name: "lone", Labels: map[string]string{"switch": "sw-1"}, Enrolled: true}, {Name: "placed", Labels: map[string]string{"rack": "r1", "switch": "sw-1"}, Enrolled: true}}
	}
	_, web := start(t, parts{Open: true, Series: noHistory, Boards: boards})
	b := openTab(t, web.URL)
	links := `JSON.stringify([...document.querySelectorAll("#board-head .crumbs a")].map((a) => a.getAttribute("href")))`
	b.open("/board/lone")
	b.until(links+` === '["/"]'`, links)
	b.open("/board/placed")
	b.until(links+` === '["/","/?rack=r1"]'`, links)
}
