package dashboards

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"bramble/dashboards/live"
	"bramble/dashboards/live/livetest"
)

// tab is one page of a real browser, with cookies of its own. It collects forbidden events: errors on the
// console and requests that leave the origin.
type tab struct {
	*testing.T
	ctx context.Context

	mu     sync.Mutex
	origin string // of the server under test
	faults []string
}

// chromium is the browser that all tests share, with its tabs that are free: a new window takes as long as five pages.
// TestMain ends it.
var chromium struct {
	start sync.Once
	ctx   context.Context
	err   error
	stop  func()           // nil where no test has asked for it
	rest  *httptest.Server // serves an empty page: of the same site as the tests' pages, so that one process draws them all

	mu   sync.Mutex
	free []context.Context // each has a tab that is at rest, without cookies
}

func TestMain(m *testing.M) {
	code := m.Run()
	if chromium.stop != nil {
		chromium.stop()
	}
	os.Exit(code)
}

// startChromium starts the browser at a path, unless it runs.
func startChromium(path string) (context.Context, error) {
	chromium.start.Do(func() {
		opts := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(livetest.Patience),
			chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
			chromedp.Flag("disable-features", "Translate,WebUIOmniboxPopup,WebUIOmniboxAimPopup,PreloadTopChromeWebUI")) // pages of the browser's own
		alloc, stop := chromedp.NewExecAllocator(context.Background(), opts...)
		ctx, cancel := chromedp.NewContext(alloc)
		chromium.rest = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,">`) // without one the browser asks for it, during the next test
		}))
		chromium.ctx, chromium.stop = ctx, func() { cancel(); stop(); chromium.rest.Close() }
		_, chromium.err = chromedp.Run(ctx, chromedp.Evaluate[bool]("true"))
		chromium.free = []context.Context{ctx} // its first window's tab
	})
	return chromium.ctx, chromium.err
}

// openTab opens an empty page without cookies in the browser, or skips the test where there is none, unless
// BRAMBLE_REQUIRE_BROWSER=1 asks for one.
func openTab(t *testing.T, origin string) *tab {
	t.Helper()
	path := browserPath()
	if path == "" {
		if os.Getenv("BRAMBLE_REQUIRE_BROWSER") == "1" {
			t.Fatal("no chromium found, and BRAMBLE_REQUIRE_BROWSER=1 requires one")
		}
		t.Skip("no chromium found: install it to run the browser tests")
	}
	running, err := startChromium(path)
	if err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	free, err := takeTab(running)
	if err != nil {
		t.Fatalf("open a page: %v", err)
	}
	ctx, stop := context.WithCancel(free)
	t.Cleanup(func() {
		stop() // the events of the next test are not for this one
		if err := giveTabBack(free); err != nil {
			t.Errorf("empty a page: %v", err)
		}
	})
	b := &tab{T: t, ctx: ctx, origin: strings.TrimPrefix(origin, "http://")}
	if err := chromedp.Listen(ctx, b.watch); err != nil {
		t.Fatalf("open a page: %v", err)
	}
	b.size(1440, 900, "light")
	return b
}

// takeTab takes a free tab, or opens one. A tab lives as long as the context of its first step.
func takeTab(running context.Context) (context.Context, error) {
	chromium.mu.Lock()
	defer chromium.mu.Unlock()
	if last := len(chromium.free) - 1; last >= 0 {
		tab := chromium.free[last]
		chromium.free = chromium.free[:last]
		return tab, nil
	}
	tab, _ := chromedp.NewContext(running, chromedp.WithNewBrowserContext()) // ends with the browser
	_, err := chromedp.Run(tab, chromedp.Evaluate[bool]("true"))
	return tab, err
}

// giveTabBack leaves nothing of a test in its tab: no page, no cookies, no time zone.
func giveTabBack(free context.Context) error {
	ctx, cancel := context.WithTimeout(free, livetest.Patience)
	defer cancel()
	err := chromedp.Do(ctx, chromedp.Navigate(chromium.rest.URL))
	if err == nil {
		_, err = chromedp.Call(ctx, network.ClearBrowserCookies, cdp.Empty{})
	}
	if err == nil {
		_, err = chromedp.Call(ctx, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{})
	}
	if err != nil {
		return err
	}
	chromium.mu.Lock()
	defer chromium.mu.Unlock()
	chromium.free = append(chromium.free, free)
	return nil
}

func browserPath() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			return p
		}
	}
	return ""
}

func (b *tab) watch(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var fault string
	switch e := ev.(type) {
	case *runtime.EventExceptionThrown:
		fault = fmt.Sprintf("exception: %s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception)
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" || e.Type == "assert" {
			fault = fmt.Sprintf("console: %+v", e.Args)
		}
	case *network.EventRequestWillBeSent:
		if u := e.Request.URL; !strings.HasPrefix(u, "http://"+b.origin) && !strings.HasPrefix(u, "data:") {
			fault = "request leaves the origin: " + u
		}
	case *network.EventWebSocketCreated:
		if !strings.HasPrefix(e.URL, "ws://"+b.origin) {
			fault = "websocket leaves the origin: " + e.URL
		}
	case *network.EventResponseReceived:
		if s := e.Response.Status; s >= 400 {
			fault = fmt.Sprintf("%s answered %d", e.Response.URL, s)
		}
	}
	if fault != "" {
		b.faults = append(b.faults, fault)
	}
}

func (b *tab) clean() {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.faults {
		b.Error(f)
	}
}

func (b *tab) size(width, height int64, theme string) {
	b.Helper()
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}}
	if err := chromedp.Do(b.ctx, chromedp.EmulateViewport(width, height)); err != nil {
		b.Fatal(err)
	}
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, media); err != nil {
		b.Fatal(err)
	}
}

func (b *tab) open(path string) {
	b.Helper()
	b.do(chromedp.Navigate("http://" + b.origin + path))
}

// visit opens a page of another server.
func (b *tab) visit(origin, path string) {
	b.Helper()
	b.mu.Lock()
	b.origin = strings.TrimPrefix(origin, "http://")
	b.mu.Unlock()
	b.open(path)
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, livetest.Patience)
	defer cancel()
	for _, step := range steps {
		err := chromedp.Do(ctx, step)
		for ctx.Err() == nil && replaced(err) {
			err = chromedp.Do(ctx, step)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// replaced is true when the page has made an element anew since it was found, as it does with every change of what it shows.
func replaced(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "Could not find node") || strings.Contains(err.Error(), "detached from document"))
}

// click clicks what a selector finds as soon as it is shown, in one step: between the press and the release of a mouse the
// page may make a button anew.
func (b *tab) click(selector string) {
	b.Helper()
	q, _ := json.Marshal(selector)
	b.until(fmt.Sprintf("((n) => n?.checkVisibility() && !n.disabled && (n.click(), true))(document.querySelector(%s))", q), "document.body.textContent")
}

// until waits for a JavaScript expression to be true, and shows another one when it never is.
func (b *tab) until(condition, show string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, livetest.Patience)
	defer cancel()
	poll := chromedp.Poll[bool]("Boolean("+condition+")", chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(livetest.Patience))
	_, err := chromedp.Run(ctx, poll)
	for ctx.Err() == nil && pageLeft(err) {
		_, err = chromedp.Run(ctx, poll)
	}
	if err != nil {
		seen, _ := chromedp.Run(b.ctx, chromedp.Evaluate[any](show))
		b.clean()
		b.Fatalf("never true: %s (%v); %s = %v", condition, err, show, seen)
	}
}

// pageLeft is true when a condition was asked of a page that has been left meanwhile.
func pageLeft(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "navigated or closed") || strings.Contains(err.Error(), "Cannot find context"))
}

func (b *tab) text(selector, want string) {
	b.Helper()
	q, _ := json.Marshal(selector)
	w, _ := json.Marshal(want)
	b.until(fmt.Sprintf("document.querySelector(%s)?.textContent.includes(%s)", q, w), fmt.Sprintf("document.querySelector(%s)?.textContent", q))
}

func cellOf(board, name string) string {
	return fmt.Sprintf(`tr[data-board="%s"] [data-field="%s"]`, board, name)
}

func full(t, requested, measured, throttle float64) []live.Value {
	return of(readings{
		"pi_soc_temperature_celsius":             t,
		`pi_cpu_clock_hertz{source="requested"}`: requested,
		`pi_cpu_clock_hertz{source="measured"}`:  measured,
		`pi_throttled{reason="throttled"}`:       throttle,
		"pi_board_up":                            1,
	})
}

// noHistory answers range queries with nothing, as a store that has just been created.
var noHistory = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprint(w, `{"status":"success","data":{"resultType":"matrix","result":[]}}`)
})

func TestBrowserFleet(t *testing.T) {
	s, web := start(t, parts{Open: true, Series: noHistory, Rejected: func() map[string]uint64 { return map[string]uint64{"foreign": 3} }})
	now := time.Now().UnixMilli()
	s.Hub().Publish("r1-01", now, full(61.2, 1.2e9, 1.2e9, 0))
	b := openTab(t, web.URL)
	b.open("/")
	b.text(cellOf("r1-01", "temperature"), "61.2 °C")
	b.text(cellOf("r1-01", "throttled"), "none")
	b.text("#side .hot", "61.2 °C")
	b.text(cellOf("r1-02", "temperature"), "—")
	b.text(cellOf("r1-02", "reported"), "never")
	b.text("#rejected summary", "3 reports rejected")

	s.Hub().Publish("r1-01", now+1000, full(83.8, 1.2e9, 657e6, 1))
	b.text(cellOf("r1-01", "temperature"), "83.8 °C")
	b.text(cellOf("r1-01", "requested"), "1200 MHz")
	b.text(cellOf("r1-01", "measured"), "657 MHz")
	b.text(cellOf("r1-01", "throttled"), "throttled")
	b.text(`[data-figure="throttled"]`, "1")
	b.until(`document.querySelector('.board-cell[data-board="r1-01"]').dataset.temperature === "83.8"`, `document.querySelector('.board-cell').outerHTML`)

	s.Hub().Publish("r1-01", now+2000, of(readings{"pi_board_up": 0}))
	b.text(cellOf("r1-01", "up"), "silent")
	b.text(cellOf("r1-01", "temperature"), "—")
	b.until(`getComputedStyle(document.querySelector('.board-cell[data-board="r1-01"]')).backgroundColor === "rgb(255, 255, 255)"`, `document.querySelector('.board-cell').outerHTML`)
	b.clean()
}

func TestBrowserFilters(t *testing.T) {
	s, web := start(t, parts{Open: true, Series: noHistory})
	s.Hub().Publish("r1-01", time.Now().UnixMilli(), full(81, 1.2e9, 9e8, 1))
	b := openTab(t, web.URL)
	b.open("/?view=table&state=throttled")
	b.text(".shown", "1 of 2")
	b.until(`document.querySelector('tr[data-board="r1-02"]').hidden`, "location.href")
	b.do(chromedp.SendKeys(chromedp.CSS("#filter"), "nowhere"))
	b.text("#empty", "None of 2 boards matches")
	b.until(`location.search.includes("q=nowhere")`, "location.href")
	b.clean()
}

func TestBrowserPhone(t *testing.T) {
	s, web := start(t, parts{Open: true, Series: noHistory})
	s.Hub().Publish("r1-01", time.Now().UnixMilli(), full(61, 1.2e9, 1.2e9, 0))
	b := openTab(t, web.URL)
	for _, p := range []string{"/incidents", "/board/r1-01", "/"} {
		b.open(p)
		for _, theme := range []string{"light", "dark"} {
			b.size(390, 844, theme)
			b.text("#live-status", "Live")
			b.until(`document.documentElement.scrollWidth <= 390`, `document.documentElement.scrollWidth`)
			if p == "/" {
				b.text(cellOf("r1-01", "temperature"), "61.0 °C")
				b.until(`getComputedStyle(document.getElementById("map")).display === "none"`, "innerWidth")
			}
		}
	}
	b.clean()
}

// TestBrowserFind finds boards, places, customers and incidents by parts of them, by keys and by the pointer, on each page
// that the one before leads to, and on a phone.
func TestBrowserFind(t *testing.T) {
	boards := func() (all []Board) {
		for i := range 24 {
			all = append(all, Board{Name: fmt.Sprintf("r3-%c-%02d", 'a'+i/12, i%12+1), Enrolled: true,
				Labels: map[string]string{"rack": "r3", "switch": fmt.Sprintf("r3-%c", 'a'+i/12), "customer": "Kelp & Co", "model": "4B"}})
		}
		return all
	}
	o := parts{Auth: newTokens(), Series: noHistory, Boards: boards, Incidents: func(context.Context) ([]Incident, error) {
		return []Incident{{ID: "seven", Number: 17, Title: "Switch r3-b: 12 of 12 boards silent", Severity: "critical", State: "firing", Since: time.Now().UnixMilli()}}, nil
	}}
	_, web := start(t, o)
	b := openTab(t, web.URL)
	b.open("/login")
	b.do(chromedp.SendKeys(chromedp.CSS(`[name="name"]`), "mira"), chromedp.SendKeys(chromedp.CSS(`[name="password"]`), "secret\r"))
	b.text("#live-status", "Live")
	rows := `[...document.querySelectorAll("#find-list li")].map((l) => l.textContent)`
	note := `document.getElementById("find-note").textContent`
	find := func(typed string, condition string) { // in place of an earlier text
		t.Helper()
		b.text("#live-status", "Live")
		b.do(chromedp.Focus(chromedp.CSS("#find")))
		b.script(`document.getElementById("find").select()`)
		b.do(chromedp.SendKeys(chromedp.CSS("#find"), typed))
		b.until(condition, rows+` + location.href`)
	}
	find("r3-b", rows+`[0] === "r3-bswitch" && `+rows+`.length === 10 && `+note+` === "and 3 more: type on"`)
	b.do(chromedp.SendKeys(chromedp.CSS("#find"), "\r"))
	b.until(`location.pathname === "/" && location.search === "?q=r3-b"`, "location.href")
	b.text(".shown", "12 of 24")
	find("b-07", rows+`[0] === "r3-b-07board"`)
	b.do(chromedp.SendKeys(chromedp.CSS("#find"), "\r"))
	b.until(`location.pathname === "/board/r3-b-07"`, "location.href")
	find("r3-a-0", rows+`.length === 9`)
	b.do(chromedp.SendKeys(chromedp.CSS("#find"), kb.ArrowDown+kb.ArrowDown+kb.ArrowDown+kb.ArrowUp))
	b.until(`document.querySelector("#find-list [aria-selected=true]").textContent === "r3-a-02board" && document.getElementById("find").getAttribute("aria-activedescendant") === "find-1"`, rows)
	b.do(chromedp.SendKeys(chromedp.CSS("#find"), "\r"))
	b.until(`location.pathname === "/board/r3-a-02"`, "location.href")
	find("r3-a-0", rows+`.length === 9`)
	b.until(`((row) => {
		window.went = [];
		navigation.addEventListener("navigate", (e) => window.went.push(e.destination.url));
		for (const kind of ["pointerdown", "mousedown"]) row.dispatchEvent(new PointerEvent(kind, {bubbles: true, cancelable: true, button: 2}));
		return window.went.length === 0;
	})(document.getElementById("find-3"))`, "window.went")
	b.do(chromedp.Click(chromedp.CSS("#find-3")))
	b.until(`location.pathname === "/board/r3-a-04"`, "location.href")
	find("elp", rows+`[0] === "Kelp & Cocustomer"`)
	b.do(chromedp.SendKeys(chromedp.CSS("#find"), "\r"))
	b.until(`new URLSearchParams(location.search).get("customer") === "Kelp & Co"`, "location.href")
	for _, typed := range []string{"17", "#17"} {
		find(typed, rows+`[0]?.startsWith("#17incident: Switch r3-b")`)
	}
	b.do(chromedp.SendKeys(chromedp.CSS("#find"), "\r"))
	b.until(`location.pathname === "/incidents" && location.search === "?id=seven"`, "location.href")
	find("18", note+` === "Nothing is called “18”. Incidents older than those on the Incidents page are not searched."`)
	find("nowhere", note+` === "Nothing is called “nowhere”." && document.querySelectorAll("#find-list > :not([role=option])").length === 0`)
	b.do(chromedp.SendKeys(chromedp.CSS("#find"), "\r"))
	b.until(`location.pathname === "/incidents"`, "location.href")

	b.size(390, 844, "dark")
	find("r3-b-01", rows+`[0] === "r3-b-01board"`)
	b.until(`document.documentElement.scrollWidth <= 390 && document.getElementById("find-list").getBoundingClientRect().right <= 390`, rows)
	b.shots("find")
	b.clean()
}

func TestBrowserNoBoards(t *testing.T) {
	_, web := start(t, parts{Open: true, Series: noHistory, BoardsPort: "4333", Boards: func() []Board { return nil }})
	b := openTab(t, web.URL)
	b.open("/")
	b.text("#empty", "collector board add")
	b.text("#empty", "pisensor enrol nats://127.0.0.1:4333 TOKEN")
	b.clean()
}

func TestBrowserDemoInbox(t *testing.T) {
	var mu sync.Mutex
	in := Incident{ID: "7", Title: "Rack r1: 2 boards silent", Severity: "critical", State: "firing", Since: time.Now().UnixMilli(), Alerts: 2}
	received := time.Now() // another time at each question would have the inbox built anew, under the click
	o := parts{
		Open: true, Series: noHistory,
		Incidents: func(context.Context) ([]Incident, error) {
			mu.Lock()
			defer mu.Unlock()
			return []Incident{in}, nil
		},
		Acknowledge: func(_ context.Context, id, who, _ string) error {
			mu.Lock()
			defer mu.Unlock()
			in.State, in.AcknowledgedBy, in.AcknowledgedAt = "acknowledged", who, time.Now().UnixMilli()
			return nil
		},
		Demo: &Demo{
			HistoryEnds: time.Now(),
			Faults:      func() []Fault { return []Fault{{At: time.Now().Add(time.Minute), What: "the switch of r2 goes away"}} },
			Inbox: func() []Received {
				return []Received{{At: received, ID: "key-7", To: "ada", Subject: "Rack r1: 2 boards silent", Headers: map[string]string{"Idempotency-Key": "key-7"}, Body: `{"n":1}`, IncidentID: "7"}}
			},
		},
	}
	_, web := start(t, o)
	b := openTab(t, web.URL)
	b.open("/")
	b.text("#demo-bar", "the switch of r2 goes away")
	b.text("#inbox summary", "to ada, as received")
	b.text("#inbox pre", "Idempotency-Key: key-7")
	b.text("#inbox pre", `"n": 1`)
	b.text(".incident-row", "Rack r1: 2 boards silent")
	b.click(`#inbox [data-ack="7"]`)
	b.text(".incident-row", "Acknowledged by demo")
	b.text("#inbox", "demo")
	b.open("/incidents")
	b.text(`.inc[data-incident="7"]`, "Acknowledged by demo")
	b.clean()
}

// TestBrowserPagesNobody: what pages nobody is shown, apart from what somebody has to look at.
func TestBrowserPagesNobody(t *testing.T) {
	now := time.Now().UnixMilli()
	list := []Incident{
		{
			ID: "8", Number: 8, Title: "r1-01: no reports", Severity: "critical", State: "firing", Since: now, Alerts: 1, PagesNobody: true, Boards: []string{"r1-01"},
			Reason: "The other board of rack r1 reports.",
		},
		{
			ID: "7", Number: 7, Title: "Rack r2: 4 of 4 boards silent", Severity: "critical", State: "firing", Since: now, Alerts: 4,
			Reason: "Rack r1 reports.", Runbook: "Look at what they share.",
		},
		{ID: "6", Number: 6, Title: "r1-02: warm", Severity: "warning", State: "firing", Since: now, Alerts: 1, PagesNobody: true, Shadow: true},
	}
	o := parts{Open: true, Series: noHistory, Incidents: func(context.Context) ([]Incident, error) { return list, nil }}
	_, web := start(t, o)
	b := openTab(t, web.URL)
	b.open("/")
	b.text(".incident-row", "Rack r2: 4 of 4 boards silent")
	b.until(`!document.body.textContent.includes("r1-01: no reports")`, "document.body.textContent")
	b.text("#incident-count", "1")
	b.open("/incidents")
	b.text("#incident-list", "1 incident from 4 alerts")
	b.text("#incident-list", "customers' boards, each alone, and rules in the shadow: page nobody")
	b.text("#incident-detail", "Rack r1 reports.")
	b.text("#incident-detail", "Look at what they share.")
	b.click(`.inc[data-incident="8"]`)
	b.text("#incident-detail", "The other board of rack r1 reports.")
	b.text("#incident-detail", "Nobody is paged")
	b.until(`!document.querySelector("#incident-detail button")`, "document.body.textContent")
	b.text(`.inc[data-incident="6"]`, "Shadow, pages nobody")
	b.click(`.inc[data-incident="6"]`)
	b.text("#incident-detail", "the rule is being tried out")
	b.clean()
}

func TestBrowserLogin(t *testing.T) {
	_, web := start(t, parts{Auth: newTokens(), Series: noHistory})
	b := openTab(t, web.URL)
	b.open("/board/r1-01")
	b.do(chromedp.SendKeys(chromedp.CSS(`[name="name"]`), "mira"), chromedp.SendKeys(chromedp.CSS(`[name="password"]`), "secret\r"))
	b.text("h1", "r1-01")
	b.text("#live-status", "Live")
	b.clean()
}

// listenAgainAndAgain listens on a port from below those that the kernel gives to connections: none takes it while nobody
// listens. Nor do the tests of collector and pisensor, which run at the same time.
func listenAgainAndAgain(t *testing.T) net.Listener {
	t.Helper()
	for range 1000 {
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(28_000+rand.IntN(4_000)))); err == nil {
			return l
		}
	}
	t.Fatal("no port is free")
	return nil
}

// The collector goes away and comes back at the same address: the page says so and recovers.
func TestBrowserReconnects(t *testing.T) {
	listener := listenAgainAndAgain(t)
	addr := listener.Addr().String()
	serve := func(l net.Listener, temperature float64) (stop func()) {
		s, err := New(parts{Open: true, Boards: twoBoards, Series: noHistory, Log: quiet()}.options())
		if err != nil {
			t.Fatal(err)
		}
		s.Hub().Publish("r1-01", time.Now().UnixMilli(), full(temperature, 1.2e9, 1.2e9, 0))
		web := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: livetest.Patience}
		go web.Serve(l)
		return func() {
			s.Close()
			web.Close()
		}
	}
	stop := serve(listener, 55)
	b := openTab(t, "http://"+addr)
	b.open("/")
	b.text(cellOf("r1-01", "temperature"), "55.0 °C")
	stop()
	b.text("#stale", "Collector unreachable")
	b.text("#stale", "Retry")
	again, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	stop = serve(again, 66)
	defer stop()
	b.text(cellOf("r1-01", "temperature"), "66.0 °C")
	b.text("#live-status", "Live")
	b.until(`document.getElementById("stale").hidden`, "document.body.className")
}
