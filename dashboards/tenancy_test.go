package dashboards

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"bramble/alerting/rules"
	"bramble/dashboards/live"
	"bramble/dashboards/live/livetest"
)

// leasehold is an Own in which r1-02 belongs to Kelp & Co since 1000, and x-01 to somebody else.
func leasehold() *own {
	return &own{
		Tenancy: func(board string, at int64) (string, int64) {
			switch {
			case board == "r1-02" && at >= 1000:
				return "Kelp & Co", 1000
			case board == "r1-02" || board == "x-01":
				return "birch", 0
			}
			return "", 0
		},
		History:  func(context.Context, string, HistoryQuery) ([]Span, error) { return []Span{}, nil },
		Settings: settingsOf(),
	}
}

// settingsOf has one contact, whose link is "good".
func settingsOf() *settings {
	ok := func() error { return nil }
	return &settings{
		Get: func(_ context.Context, customer string) (OwnBook, error) {
			return OwnBook{Customer: customer, Thresholds: []OwnThreshold{}, Contacts: []OwnContact{}}, nil
		},
		SetThreshold:    func(context.Context, string, string, rules.Threshold) error { return ok() },
		RemoveThreshold: func(context.Context, string, string, string, string) error { return ErrUnknownOwn },
		AddContact:      func(context.Context, string, string, string) error { return ErrTooOften },
		AskContact:      func(context.Context, string, string, string) error { return ErrBadRequest },
		RemoveContact:   func(context.Context, string, string, string) error { return ok() },
		Linked: func(_ context.Context, link string) (OwnContact, error) {
			if link != "good" {
				return OwnContact{}, ErrUnknownOwn
			}
			return OwnContact{Address: "<b>@example.org", Customer: "Kelp & Co"}, nil
		},
		Answer: func(context.Context, string, bool) error { return ok() },
	}
}

// ofCustomers adds customers to the tokens. One has a role and no customer, as no registry makes it.
func ofCustomers() *tokens {
	a := newTokens()
	a.users["kelp-token"] = User{Name: "kim", Role: Customer, Customer: "Kelp & Co"}
	a.users["birch-token"] = User{Name: "bea", Role: Customer, Customer: "birch"}
	a.users["nobody-token"] = User{Name: "ned", Role: Customer}
	return a
}

func threeBoards() []Board {
	return append(twoBoards(), Board{Name: "x-01", Labels: map[string]string{"customer": "birch", "rack": "x"}, Enrolled: true})
}

// everything opens all that there is to open, so that nothing is refused for want of it.
func everything(t *testing.T) (*Server, *httptest.Server) {
	t.Helper()
	secret := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("SECRET")) })
	return start(t, parts{
		Auth: ofCustomers(), Own: leasehold(), Boards: threeBoards, Series: secret, Rollups: secret, Import: secret, Rules: secret, Alerts: secret, Metrics: secret,
		Incidents: func(context.Context) ([]Incident, error) {
			return []Incident{{ID: "1", Title: "SECRET", Boards: []string{"r1-02"}}}, nil
		},
		Links: nil, Reload: func() error { return nil }, Demo: &Demo{},
	})
}

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// requestsOf are requests that lead to a route.
func requestsOf(pattern string) (out []call) {
	method, path, ok := strings.Cut(pattern, " ")
	methods := []string{method}
	if !ok {
		path, methods = pattern, []string{"GET", "POST", "PUT", "DELETE", "PATCH"}
	}
	path = strings.ReplaceAll(path, "{$}", "")
	if pattern == "/" {
		path = "/nothing"
	}
	path = strings.NewReplacer("{name}", "r1-02", "{id}", "1", "{number}", "1").Replace(path)
	path = placeholder.ReplaceAllString(path, "x")
	if strings.HasSuffix(path, "/") && path != "/" {
		path += "query"
	}
	for _, m := range methods {
		out = append(out, call{method: m, path: path})
	}
	return out
}

// TestCustomersReachTheirRoutesAlone walks every route of the server.
func TestCustomersReachTheirRoutesAlone(t *testing.T) {
	s, web := everything(t)
	if len(s.served) < 50 {
		t.Fatalf("only %d routes are known", len(s.served))
	}
	for _, token := range []string{"kelp-token", "nobody-token"} {
		for _, pattern := range s.served {
			for _, c := range requestsOf(pattern) {
				c.token = token
				resp, body := c.do(t, web.URL)
				switch {
				case strangerRoutes[pattern]:
				case pattern == "GET /{$}":
					if resp.StatusCode != 303 || resp.Header.Get("Location") != "/own" {
						t.Errorf("%s %s as %s: %d to %s", c.method, c.path, token, resp.StatusCode, resp.Header.Get("Location"))
					}
				case customerRoutes[pattern] && token == "kelp-token":
					if resp.StatusCode == 403 {
						t.Errorf("%s %s as %s: %d %s", c.method, c.path, token, resp.StatusCode, body)
					}
				case resp.StatusCode != 403 && (resp.StatusCode != 404 || !customerRoutes[pattern]):
					t.Errorf("%s %s as %s: %d %s", c.method, c.path, token, resp.StatusCode, body)
				}
				if strings.Contains(body, "SECRET") {
					t.Errorf("%s %s as %s shows %s", c.method, c.path, token, body)
				}
			}
		}
	}
	for pattern := range customerRoutes {
		if !slices.Contains(s.served, pattern) {
			t.Errorf("%s is on the list and not served", pattern)
		}
	}
}

// A route that somebody adds and forgets is closed to customers, even where its handler asks nobody.
func TestANewRouteIsClosedToCustomers(t *testing.T) {
	s, _ := everything(t)
	mux := newRoutes()
	mux.HandleFunc("GET /api/new", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	web := httptest.NewServer(s.access.guard(s.access.confine(mux.mux)))
	defer web.Close()
	for token, want := range map[string]int{"kelp-token": 403, "viewer-token": http.StatusTeapot, "": http.StatusTeapot} {
		if resp, _ := (call{path: "/api/new", token: token}).do(t, web.URL); resp.StatusCode != want {
			t.Errorf("as %q: %d, want %d", token, resp.StatusCode, want)
		}
	}
}

// TestCustomersFindNoWayRound tries the tricks that have fooled routers, proxies and frameworks elsewhere.
func TestCustomersFindNoWayRound(t *testing.T) {
	_, web := everything(t)
	for _, c := range []call{
		{path: "/api/own/../boards"}, {path: "/api/own/%2e%2e/boards"}, {path: "/api/own/..%2fboards"}, {path: "//api/boards"}, {path: "/api//boards"},
		{path: "/api/boards/"}, {path: "/API/boards"}, {path: "/api/own/boards/..%2f..%2fincidents"}, {path: "/api/v1/query?query=up"},
		{path: "/static/../metrics"}, {path: "/static/%2e%2e/metrics"}, {path: "/login/../metrics"}, {path: "/prometheus/api/v1/query?query=up"},
		{path: "/api/own/boards/r1-02/history/../../../../boards"}, {method: "HEAD", path: "/api/boards"}, {method: "OPTIONS", path: "/api/boards"},
		{method: "TRACE", path: "/metrics"}, {method: "POST", path: "/api/own/boards", header: map[string]string{"X-HTTP-Method-Override": "GET", "X-Original-URL": "/metrics"}},
		{path: "/metrics", header: map[string]string{"X-Original-URL": "/own", "X-Rewrite-URL": "/own", "X-Forwarded-Prefix": "/own"}},
		{path: "/api/boards", header: map[string]string{"X-Forwarded-User": "ada", "X-Remote-User": "ada", "Cookie": "bramble=kelp-token"}},
	} {
		c.token = "kelp-token"
		resp, body := c.do(t, web.URL)
		if resp.StatusCode < 300 || strings.Contains(body, "SECRET") || strings.Contains(body, "x-01") {
			t.Errorf("%s %s: %d %s", c.method, c.path, resp.StatusCode, body)
		}
		if to := resp.Header.Get("Location"); resp.StatusCode/100 == 3 {
			if again, body := (call{path: to, token: c.token}).do(t, web.URL); again.StatusCode != 403 && again.StatusCode != 303 && again.StatusCode != 404 {
				t.Errorf("%s leads to %s: %d %s", c.path, to, again.StatusCode, body)
			}
		}
	}
}

// Another's board and one that is not there get the same answer, and a question may not name a customer.
func TestACustomerSeesOwnBoardsAlone(t *testing.T) {
	s, web := everything(t)
	s.Hub().Publish("r1-02", 900, of(readings{"pi_soc_temperature_celsius": 91.25, "pi_memory_available_bytes": 5}))
	s.Hub().Publish("r1-02", 1500, of(readings{`pi_cpu_clock_hertz{source="measured"}`: 6e8}))
	s.Hub().Publish("x-01", 1500, warm(77.25))
	_, list := call{path: "/api/own/boards", token: "kelp-token"}.do(t, web.URL)
	for _, secret := range []string{"x-01", "r1-01", "77.25", "91.25", "rack"} {
		if strings.Contains(list, secret) {
			t.Errorf("the list shows %q: %s", secret, list)
		}
	}
	if !strings.Contains(list, `"r1-02"`) || !strings.Contains(list, "600000000") {
		t.Errorf("the list lacks the own board: %s", list)
	}
	_, one := call{path: "/api/own/boards/r1-02", token: "kelp-token"}.do(t, web.URL)
	if strings.Contains(one, "91.25") || strings.Contains(one, "memory") || !strings.Contains(one, "measured") {
		t.Errorf("the board shows what came before it was theirs: %s", one)
	}
	const history = "/history?metric=pi_soc_temperature_celsius&start=1&end=1000000&step=60"
	for _, rest := range []string{"", history} {
		var answers []string
		for _, name := range []string{"x-01", "r1-01", "z-99", "X%20", "..", strings.Repeat("a", 300)} {
			resp, body := call{path: "/api/own/boards/" + name + rest, token: "kelp-token"}.do(t, web.URL)
			if name == ".." { // a redirect to somewhere else
				continue
			}
			if resp.StatusCode != 404 {
				t.Errorf("%s%s: %d %s", name, rest, resp.StatusCode, body)
			}
			answers = append(answers, strings.ReplaceAll(body, name, ""))
		}
		if answers[0] != answers[1] || answers[0] != answers[2] {
			t.Errorf("answers differ: %q", answers)
		}
	}
	if resp, _ := (call{path: "/own/board/x-01", token: "kelp-token"}).do(t, web.URL); resp.StatusCode != 404 {
		t.Errorf("page of another's board: %d", resp.StatusCode)
	}
	f := func(path, token string, want int) {
		t.Helper()
		if resp, body := (call{path: path, token: token}).do(t, web.URL); resp.StatusCode != want {
			t.Errorf("%s as %s: %d %s, want %d", path, token, resp.StatusCode, body, want)
		}
	}
	f("/api/own/boards?customer=birch", "kelp-token", 403)
	f("/api/own/settings?customer=birch", "kelp-token", 403)
	f("/api/own/settings", "kelp-token", 200)
	for token, want := range map[string]int{"kelp-token": 200, "viewer-token": 403, "nobody-token": 403, "": 401, "operator-token": 400} {
		c := call{method: "POST", path: "/api/own/thresholds", token: token, body: `{"kind":"silent"}`}
		if resp, body := c.do(t, web.URL); resp.StatusCode != want {
			t.Errorf("a threshold as %q: %d %s", token, resp.StatusCode, body)
		}
		c.header = map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
		if resp, _ := c.do(t, web.URL); resp.StatusCode != 403 {
			t.Errorf("a threshold from another site as %q: %d", token, resp.StatusCode)
		}
	}
	f("/api/own/boards?customer=Kelp+%26+Co", "kelp-token", 200)
	f("/api/own/boards?customer=Kelp+%26+Co&customer=birch", "kelp-token", 200) // the first counts, for both
	f("/api/own/boards", "viewer-token", 400)
	f("/api/own/boards?customer=birch", "viewer-token", 200)
	f("/api/own/boards", "", 401)
	f("/api/own/boards", "nobody-token", 403)
	f("/api/own/boards/r1-02"+history, "kelp-token", 200)
	for _, bad := range []string{"metric=bramble_x", "metric=ALERTS", "metric=node_load1", "metric=pi_x%22}+or+up", "by=rack", "by=customer", "end=999999999999"} {
		q := "metric=pi_load1&start=1&end=1000000&step=60"
		key, value, _ := strings.Cut(bad, "=")
		q = regexp.MustCompile(key+`=[^&]*&?`).ReplaceAllString(q, "") + "&" + key + "=" + value
		f("/api/own/boards/r1-02/history?"+q, "kelp-token", 400)
	}
}

// dialOwn opens a customer's websocket.
func dialOwn(t *testing.T, web *httptest.Server, token string) (*livetest.Browser, int) {
	t.Helper()
	conn, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(web.URL, "http")+"/own/live", http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		if resp == nil {
			t.Fatal(err)
		}
		return nil, resp.StatusCode
	}
	t.Cleanup(func() { conn.Close() })
	return &livetest.Browser{TB: t, Conn: conn}, 0
}

func TestACustomersWebsocketCarriesOwnBoardsAlone(t *testing.T) {
	livetest.Leakless(t)
	var mu sync.Mutex
	owner := map[string]string{"r1-02": "Kelp & Co", "x-01": "birch"}
	own := leasehold()
	own.Tenancy = func(board string, _ int64) (string, int64) {
		mu.Lock()
		defer mu.Unlock()
		return owner[board], 0
	}
	var leases []string
	s, web := start(t, parts{
		Auth: ofCustomers(), Own: own, Boards: threeBoards,
		Incidents: func(context.Context) ([]Incident, error) { return []Incident{{ID: "SECRET"}}, nil },
		Watch:     func(board, _ string, _ time.Duration) error { leases = append(leases, board); return nil },
	})
	for _, token := range []string{"viewer-token", "nobody-token", "wrong"} {
		if b, code := dialOwn(t, web, token); b != nil {
			t.Errorf("%s has a customer's websocket", token)
		} else if token == "wrong" && code != 401 {
			t.Errorf("a stranger: %d", code)
		}
	}
	if _, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(web.URL, "http")+"/live", http.Header{"Authorization": {"Bearer kelp-token"}}); err == nil || resp.StatusCode != 403 {
		t.Errorf("a customer on the operators' websocket: %v", resp)
	}
	b, _ := dialOwn(t, web, "kelp-token")
	b.Next("hello")
	for _, refused := range []string{
		`{"type":"subscribe","fleet":true}`, `{"type":"subscribe","fleet":true,"board":"r1-02"}`, `{"type":"subscribe","board":"x-01"}`,
		`{"type":"subscribe","board":"r1-01"}`, `{"type":"subscribe","board":"none"}`, `{"type":"watch","board":"x-01"}`,
	} {
		b.Send(refused)
		if m := b.Next("error"); m["error"] == "" {
			t.Errorf("%s: %v", refused, m)
		}
	}
	b.Send(`{"type":"subscribe","board":"r1-02"}`)
	b.Next("subscribed")
	b.Send(`{"type":"watch","board":"r1-02"}`)
	b.Next("watching")
	// only wants a message of a kind, and nothing else before it but the time.
	only := func(kind string) map[string]any {
		t.Helper()
		for {
			var m map[string]any
			if err := b.Conn.ReadJSON(&m); err != nil {
				t.Fatal(err)
			}
			if m["type"] == "time" {
				continue
			}
			if m["type"] != kind {
				t.Errorf("%v comes before %s", m, kind)
				continue
			}
			return m
		}
	}
	next := func(celsius float64) {
		t.Helper()
		m := only("reading")
		if values, _ := m["values"].(map[string]any); m["board"] != "r1-02" || values["pi_soc_temperature_celsius"] != celsius {
			t.Errorf("%v, want %v °C", m, celsius)
		}
	}
	viewer := livetest.Dial(t, web.URL+"/live", http.Header{"Authorization": {"Bearer viewer-token"}})
	viewer.Next("hello")
	s.Hub().Alerts()
	viewer.Next("incidents") // all who get it have it by now
	s.Hub().Publish("x-01", 1, warm(77))
	s.Hub().Publish("r1-02", 1, warm(50))
	next(50)
	mu.Lock()
	owner["r1-02"] = "birch"
	mu.Unlock()
	s.Hub().Publish("r1-02", 2, warm(88)) // birch's now
	b.Send(`{"type":"watch","board":"r1-02"}`)
	only("error")
	mu.Lock()
	owner["r1-02"] = "Kelp & Co"
	mu.Unlock()
	s.Hub().Publish("r1-02", 3, warm(51))
	next(51)
	if len(leases) != 1 {
		t.Errorf("leases of %v", leases)
	}
}

// One customer takes neither all websockets nor all of the store.
func TestACustomerTakesAShareAlone(t *testing.T) {
	livetest.Leakless(t)
	release, entered := make(chan struct{}), make(chan struct{}, 100)
	own := leasehold()
	own.History = func(context.Context, string, HistoryQuery) ([]Span, error) {
		entered <- struct{}{}
		<-release
		return nil, nil
	}
	s, web := start(t, parts{Auth: ofCustomers(), Own: own, Boards: threeBoards})
	s.customers.busy.patience = time.Hour // however slow the machine is
	for range 16 {                        // as many as a customer may have
		b, _ := dialOwn(t, web, "kelp-token")
		b.Next("hello")
	}
	b, _ := dialOwn(t, web, "kelp-token")
	if _, _, err := b.Conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseTryAgainLater) {
		t.Errorf("one websocket too many: %v", err)
	}
	other, _ := dialOwn(t, web, "birch-token")
	other.Next("hello")

	ask := call{path: "/api/own/boards/r1-02/history?metric=pi_load1&start=1&end=1000000&step=60", token: "kelp-token"}
	codes := make(chan int, busyAtOnce+busyWaiting+1)
	for range busyAtOnce + busyWaiting + 1 { // one of them finds no place
		go func() {
			resp, _ := ask.do(t, web.URL)
			codes <- resp.StatusCode
		}()
	}
	for range busyAtOnce {
		<-entered
	}
	if code := <-codes; code != http.StatusTooManyRequests {
		t.Errorf("the first answer is %d", code)
	}
	if len(entered) > 0 {
		t.Error("more than its share is answered at once")
	}
	if resp, _ := (call{path: "/api/own/boards", token: "birch-token"}).do(t, web.URL); resp.StatusCode != 200 {
		t.Errorf("another customer waits for it: %d", resp.StatusCode)
	}
	close(release)
	for range busyAtOnce + busyWaiting {
		if code := <-codes; code != 200 {
			t.Errorf("a request that waited: %d", code)
		}
	}
}

func FuzzOwnHistory(f *testing.F) {
	f.Add("r1-02", "metric=pi_load1&start=1&end=1000000&step=60&by=source")
	f.Add("r1-02", "metric=up&start=-1&end=x&step=0")
	f.Fuzz(func(t *testing.T, board, query string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.RawQuery = query
		q, err := parseOwnHistory(board, r.URL.Query())
		if err != nil {
			return
		}
		if q.Step <= 0 || q.End.Sub(q.Start)/q.Step > maxOwnSteps || !strings.HasPrefix(q.Metric, "pi") || slices.Contains(q.By, "rack") {
			b, _ := json.Marshal(q)
			t.Errorf("%s passes", b)
		}
	})
}

// A link in a mail shows whom it is about, changes nothing when it is opened, and is not to be guessed.
func TestContactLinks(t *testing.T) {
	own := leasehold()
	var said []bool
	own.Settings.Answer = func(_ context.Context, _ string, want bool) error { said = append(said, want); return nil }
	_, web := start(t, parts{Auth: ofCustomers(), Own: own})
	form := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	f := func(method, link, body string, want int, text string) {
		t.Helper()
		resp, got := call{method: method, path: "/own/contact/" + link, body: body, header: form}.do(t, web.URL)
		if resp.StatusCode != want || !strings.Contains(got, text) || strings.Contains(got, "<b>") {
			t.Errorf("%s %s %s: %d %s", method, link, body, resp.StatusCode, got)
		}
	}
	f("GET", "good", "", 200, "Yes, send them")
	f("POST", "good", "want=perhaps", 400, "yes or no")
	if len(said) != 0 {
		t.Errorf("said %v", said)
	}
	f("POST", "good", "want=yes", 200, "from now on")
	f("POST", "good", "want=no", 200, "No mail")
	if len(said) != 2 || !said[0] || said[1] {
		t.Errorf("said %v", said)
	}
	for range freeFailures {
		f("GET", "bad", "", 404, "does not hold")
	}
	f("GET", "good", "", 429, "Try again")
}

func FuzzThreshold(f *testing.F) {
	f.Add([]byte(`{"kind":"hot","board":"r1-01","value":75,"hysteresis":3,"for":"30s","keepFiringFor":"2m"}`))
	f.Add([]byte(`{"kind":"silent"}`))
	f.Add([]byte(`{"kind":"hot","value":1e999}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := decodeThreshold(b); err == nil && (got.For < 0 || got.KeepFiringFor < 0 || got.Board != "" && !live.ValidBoard(got.Board)) {
			t.Errorf("%s is %+v", b, got)
		}
	})
}
