package dashboards

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
)

// tokens is an Auth over a fixed table: credential → user, and name → password.
type tokens struct {
	mu        sync.Mutex
	users     map[string]User
	passwords map[string]string
	session   string // the answer to a login; the operator's token where it is empty
}

func newTokens() *tokens {
	return &tokens{
		users:     map[string]User{"admin-token": {Name: "ada", Role: Admin}, "operator-token": {Name: "mira", Role: Operator}, "viewer-token": {Name: "vic", Role: Viewer}},
		passwords: map[string]string{"mira": "secret"},
	}
}

func (a *tokens) Login(_ context.Context, name, password string) (string, error) {
	if want, ok := a.passwords[name]; !ok || want != password {
		return "", ErrDenied
	}
	if a.session != "" {
		return a.session, nil
	}
	return "operator-token", nil
}

func (a *tokens) Authenticate(_ context.Context, credential string) (User, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u, ok := a.users[credential]
	if !ok {
		return User{}, ErrDenied
	}
	return u, nil
}

func (a *tokens) Logout(_ context.Context, session string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.users, session)
	return nil
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func twoBoards() []Board {
	return []Board{
		{Name: "r1-02", Labels: map[string]string{"rack": "r1", "customer": "Kelp & Co", "model": "Pi 4B"}, Enrolled: true},
		{Name: "r1-01", Labels: map[string]string{"rack": "r1", "model": "Pi 3B"}, Enrolled: true, EnrolledAt: 1000, LastReport: time.UnixMilli(5000)},
	}
}

// start serves the options and closes everything when the test ends.
func start(t testing.TB, o parts) (*Server, *httptest.Server) {
	t.Helper()
	if o.Boards == nil {
		o.Boards = twoBoards
	}
	o.Log = quiet()
	s, err := New(o.options())
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		s.Close()
		web.Close()
	})
	return s, web
}

type call struct {
	method, path, token, body string
	header                    map[string]string
	host                      string
}

func (c call) do(t testing.TB, base string) (*http.Response, string) {
	t.Helper()
	if c.method == "" {
		c.method = "GET"
	}
	r, err := http.NewRequest(c.method, base+c.path, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.host != "" {
		r.Host = c.host
	}
	for k, v := range c.header {
		r.Header.Set(k, v)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// TestPanicEndsOneConnection also holds that the browser's live connection is among those that a fault ends.
func TestPanicEndsOneConnection(t *testing.T) {
	var broken atomic.Bool
	metrics := prometheus.NewRegistry()
	_, web := start(t, parts{Open: true, Registerer: metrics, Boards: func() []Board {
		if broken.Load() {
			panic("not prepared for this")
		}
		return twoBoards()
	}, Watch: func(string, string, time.Duration) error { panic("not prepared for this either") }})
	broken.Store(true)
	if resp, err := http.Get(web.URL + "/api/boards"); err == nil {
		resp.Body.Close()
		t.Errorf("answered: %s", resp.Status)
	}
	live, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(web.URL, "http")+"/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	if err := live.WriteJSON(map[string]any{"type": "watch", "board": "r1-01"}); err != nil {
		t.Fatal(err)
	}
	for err == nil { // until the connection ends
		_, _, err = live.ReadMessage()
	}
	broken.Store(false)
	if resp, _ := (call{path: "/api/boards"}).do(t, web.URL); resp.StatusCode != 200 {
		t.Errorf("afterwards: %s", resp.Status)
	}
	counted := func() (n float64) {
		families, err := metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "bramble_http_panics_total" {
				n = f.GetMetric()[0].GetCounter().GetValue()
			}
		}
		return n
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); counted() != 2; { // a connection ends before its panic is counted
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%v panics counted, want 2", counted())
		}
	}
}

// A fault where a message for all browsers is made is counted, and ends their connections alone.
func TestPanicInTheHubEndsTheBrowsersConnections(t *testing.T) {
	metrics := prometheus.NewRegistry()
	s, web := start(t, parts{Open: true, Registerer: metrics, Incidents: func(context.Context) ([]Incident, error) { panic("not prepared for this") }})
	c, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(web.URL, "http")+"/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for hello := false; err == nil; hello = true { // until the connection ends
		if _, _, err = c.ReadMessage(); !hello {
			s.Hub().Alerts()
		}
	}
	if !websocket.IsCloseError(err, websocket.CloseInternalServerErr) {
		t.Errorf("the connection ends with %v", err)
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if n := f.GetMetric()[0].GetCounter().GetValue(); f.GetName() == "bramble_http_panics_total" && n != 1 {
			t.Errorf("%v panics counted, want 1", n)
		}
	}
}

// TestImportersWriteAndReadNothing also holds that nobody else but an admin imports.
func TestImportersWriteAndReadNothing(t *testing.T) {
	auth := newTokens()
	auth.users["importer-token"] = User{Name: "token snmp", Role: Importer}
	took := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	_, web := start(t, parts{Auth: auth, Import: took, Series: took, Rules: took, Alerts: took, Metrics: took})
	f := func(token, method, path string, want int) {
		t.Helper()
		if resp, body := (call{method: method, path: path, token: token}).do(t, web.URL); resp.StatusCode != want {
			t.Errorf("%s %s as %s: %d %s, want %d", method, path, token, resp.StatusCode, body, want)
		}
	}
	for _, path := range []string{"/api/v1/write", "/api/v1/import", "/api/v1/import/prometheus"} {
		f("importer-token", "POST", path, http.StatusNoContent)
		f("admin-token", "POST", path, http.StatusNoContent)
		f("viewer-token", "POST", path, http.StatusForbidden)
		f("operator-token", "POST", path, http.StatusForbidden)
		f("", "POST", path, http.StatusUnauthorized)
	}
	for _, path := range []string{
		"/", "/board/r1-01", "/incidents", "/vmui/", "/nowhere", "/api/boards", "/api/incidents", "/api/status", "/api/backups", "/api/openapi.json",
		"/api/v1/query", "/api/v1/export", "/prometheus/api/v1/query", "/api/v1/rules", "/api/v1/alerts", "/api/v2/alerts", "/metrics", "/live",
	} {
		f("importer-token", "GET", path, http.StatusForbidden)
	}
	f("importer-token", "POST", "/api/incidents/1/ack", http.StatusForbidden)
	f("importer-token", "POST", "/api/v2/silences", http.StatusForbidden)
}

func TestStrangersSeeOnlyProbesAndLogin(t *testing.T) {
	_, web := start(t, parts{Auth: newTokens(), Metrics: http.NotFoundHandler()})
	f := func(path string, want int) {
		t.Helper()
		resp, body := call{path: path}.do(t, web.URL)
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, resp.StatusCode, want)
		}
		if want == http.StatusUnauthorized && !strings.Contains(body, `"status":"error"`) {
			t.Errorf("%s: no JSON error: %s", path, body)
		}
		if want == http.StatusSeeOther && resp.Header.Get("Location") != "/login?next="+url.QueryEscape(path) {
			t.Errorf("%s: redirects to %s", path, resp.Header.Get("Location"))
		}
	}
	for _, p := range []string{"/-/healthy", "/-/ready", "/login"} {
		f(p, http.StatusOK)
	}
	for _, p := range []string{"/", "/board/r1-01", "/incidents", "/vmui/", "/no/such/page"} {
		f(p, http.StatusSeeOther)
	}
	for _, p := range []string{
		"/api/boards", "/api/boards/r1-01", "/api/incidents", "/api/status", "/api/demo", "/api/openapi.json", "/api/nothing",
		"/api/v1/query", "/api/v1/rules", "/api/v2/alerts", "/metrics", "/live",
	} {
		f(p, http.StatusUnauthorized)
	}
	resp, _ := call{method: "POST", path: "/api/incidents/1/ack"}.do(t, web.URL)
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("acknowledge by a stranger: %d", resp.StatusCode)
	}
}

// TestBasicPassword: a token is taken as a password of Basic authentication wherever it is taken as a Bearer token.
func TestBasicPassword(t *testing.T) {
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	s, web := start(t, parts{Auth: newTokens(), Series: ok, Rollups: ok, Import: ok, Rules: ok, Metrics: ok, Alerts: ok})
	basic := func(user, password string) map[string]string {
		r := httptest.NewRequest("GET", "/", nil)
		r.SetBasicAuth(user, password)
		return map[string]string{"Authorization": r.Header.Get("Authorization")}
	}
	for _, pattern := range s.served {
		method, path, found := strings.Cut(pattern, " ")
		if !found {
			method, path = "GET", pattern
		}
		if strings.Contains(path, "{") || method != "GET" || path == "/live" || path == "/own/live" {
			continue
		}
		bearer, _ := call{method: method, path: path, token: "viewer-token"}.do(t, web.URL)
		password, _ := call{method: method, path: path, header: basic("grafana", "viewer-token")}.do(t, web.URL)
		if bearer.StatusCode != password.StatusCode {
			t.Errorf("%s: %d with a Bearer token, %d with a password", pattern, bearer.StatusCode, password.StatusCode)
		}
		stranger, _ := call{method: method, path: path}.do(t, web.URL)
		wrong, _ := call{method: method, path: path, header: basic("viewer-token", "wrong")}.do(t, web.URL)
		if stranger.StatusCode != wrong.StatusCode {
			t.Errorf("%s: %d for a stranger, %d with a wrong password", pattern, stranger.StatusCode, wrong.StatusCode)
		}
	}
	if conn, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(web.URL, "http")+"/live", http.Header{"Authorization": {basic("", "viewer-token")["Authorization"]}}); err != nil {
		t.Errorf("websocket: %v, %v", err, resp)
	} else {
		conn.Close()
	}
}

func TestRoles(t *testing.T) {
	var by []string
	o := parts{
		Auth: newTokens(),
		Acknowledge: func(_ context.Context, id, who, comment string) error {
			by = append(by, id+" "+who+" "+comment)
			return nil
		},
		Alerts: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }),
	}
	_, web := start(t, o)
	f := func(c call, want int) {
		t.Helper()
		if resp, body := c.do(t, web.URL); resp.StatusCode != want {
			t.Errorf("%s %s as %s: %d, want %d: %s", c.method, c.path, c.token, resp.StatusCode, want, body)
		}
	}
	f(call{path: "/api/boards", token: "viewer-token"}, 200)
	f(call{path: "/api/boards", token: "wrong"}, 401)
	f(call{method: "POST", path: "/api/incidents/7/ack", token: "viewer-token"}, 403)
	f(call{method: "POST", path: "/api/incidents/7/ack", token: "operator-token", body: `{"comment":"mine"}`}, 200)
	f(call{method: "POST", path: "/api/incidents/8/ack", token: "admin-token"}, 200)
	f(call{method: "POST", path: "/api/incidents/8/ack", token: "admin-token", body: `{`}, 400)
	f(call{method: "GET", path: "/api/v2/silences", token: "viewer-token"}, 200)
	f(call{method: "POST", path: "/api/v2/silences", token: "viewer-token"}, 403)
	f(call{method: "POST", path: "/api/v2/silences", token: "operator-token"}, 200)
	if diff := cmp.Diff([]string{"7 mira mine", "8 ada "}, by); diff != "" {
		t.Errorf("acknowledgements (-want +got):\n%s", diff)
	}
}

func TestUnknownIncident(t *testing.T) {
	o := parts{Open: true, Acknowledge: func(context.Context, string, string, string) error { return ErrUnknownIncident }}
	_, web := start(t, o)
	if resp, _ := (call{method: "POST", path: "/api/incidents/9/ack"}).do(t, web.URL); resp.StatusCode != 404 {
		t.Errorf("status %d, want 404", resp.StatusCode)
	}
}

func TestFaultsStayInTheLog(t *testing.T) {
	o := parts{Open: true, Incidents: func(context.Context) ([]Incident, error) { return nil, errors.New("secret path /x") }}
	_, web := start(t, o)
	resp, body := call{path: "/api/incidents"}.do(t, web.URL)
	if resp.StatusCode != 500 || strings.Contains(body, "secret") {
		t.Errorf("status %d, body %s", resp.StatusCode, body)
	}
}

func TestOtherSitesAreRefused(t *testing.T) {
	o := parts{Auth: newTokens(), Acknowledge: func(context.Context, string, string, string) error { return nil }}
	_, web := start(t, o)
	f := func(method, path string, header map[string]string, want int) {
		t.Helper()
		header["Cookie"] = "bramble=operator-token"
		if resp, _ := (call{method: method, path: path, header: header}).do(t, web.URL); resp.StatusCode != want {
			t.Errorf("%s %s %v: %d, want %d", method, path, header, resp.StatusCode, want)
		}
	}
	const ack = "/api/incidents/1/ack"
	f("POST", ack, map[string]string{"Origin": web.URL}, 200)
	f("POST", ack, map[string]string{"Origin": "https://evil.example"}, 403)
	f("POST", ack, map[string]string{"Origin": "null"}, 403)
	f("POST", ack, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403)
	f("POST", ack, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403)
	f("POST", ack, map[string]string{"Sec-Fetch-Site": "same-origin"}, 200)
	f("GET", "/api/boards", map[string]string{"Origin": "https://evil.example"}, 403)
	f("GET", "/", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200)
	f("GET", "/live", map[string]string{
		"Origin": "https://evil.example", "Connection": "Upgrade", "Upgrade": "websocket",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	}, 403)
}

func TestOpenIsForLoopbackHostsOnly(t *testing.T) {
	_, web := start(t, parts{Open: true})
	f := func(host string, want int) {
		t.Helper()
		if resp, _ := (call{path: "/api/boards", host: host}).do(t, web.URL); resp.StatusCode != want {
			t.Errorf("host %s: %d, want %d", host, resp.StatusCode, want)
		}
	}
	for _, h := range []string{"localhost", "localhost:8420", "127.0.0.1:8420", "127.9.9.9", "[::1]:8420", "demo.localhost:1"} {
		f(h, 200)
	}
	for _, h := range []string{"evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1:8420", "[fe80::1]"} {
		f(h, 403)
	}
}

func TestLogin(t *testing.T) {
	_, web := start(t, parts{Auth: newTokens()})
	form := func(name, password, next string) call {
		return call{
			method: "POST", path: "/login", body: url.Values{"name": {name}, "password": {password}, "next": {next}}.Encode(),
			header: map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Origin": web.URL},
		}
	}
	resp, _ := form("mira", "secret", "/board/r1-01?range=1h").do(t, web.URL)
	if resp.StatusCode != 303 || resp.Header.Get("Location") != "/board/r1-01?range=1h" {
		t.Fatalf("login: %d to %s", resp.StatusCode, resp.Header.Get("Location"))
	}
	c := resp.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Secure || c.Path != "/" {
		t.Errorf("cookie %+v", c)
	}
	if resp, _ := (call{path: "/", header: map[string]string{"Cookie": c.Name + "=" + c.Value}}).do(t, web.URL); resp.StatusCode != 200 {
		t.Errorf("fleet after login: %d", resp.StatusCode)
	}
	resp, _ = form("mira", "secret", "//evil.example").do(t, web.URL)
	if resp.Header.Get("Location") != "/" {
		t.Errorf("redirects to %s", resp.Header.Get("Location"))
	}
	for range freeFailures {
		if resp, _ = form("mira", "wrong", "/").do(t, web.URL); resp.StatusCode != 401 {
			t.Errorf("wrong password: %d", resp.StatusCode)
		}
	}
	resp, _ = form("mira", "secret", "/").do(t, web.URL)
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("after %d failures: %d, Retry-After %q", freeFailures, resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	resp, _ = call{method: "POST", path: "/logout", header: map[string]string{"Cookie": c.Name + "=" + c.Value}}.do(t, web.URL)
	if resp.StatusCode != 303 || resp.Cookies()[0].MaxAge >= 0 {
		t.Errorf("logout: %d %+v", resp.StatusCode, resp.Cookies())
	}
	if resp, _ := (call{path: "/api/boards", token: c.Value}).do(t, web.URL); resp.StatusCode != 401 {
		t.Errorf("session after logout: %d", resp.StatusCode)
	}
}

func TestCookieIsSecureBehindTLS(t *testing.T) {
	_, web := start(t, parts{Auth: newTokens(), SecureCookie: true})
	resp, _ := call{
		method: "POST", path: "/login", body: "name=mira&password=secret",
		header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"},
	}.do(t, web.URL)
	if c := resp.Cookies()[0]; !c.Secure || !strings.HasPrefix(c.Name, "__Host-") {
		t.Errorf("cookie %+v", c)
	}
}

func TestBackups(t *testing.T) {
	_, web := start(t, parts{Open: true, Backups: func() Backups {
		return Backups{Target: "/mnt", EverySeconds: 86400, Error: "disk full", Kept: []Backup{{Name: "n", Taken: 5, Rows: 7, Good: true, Result: "good"}}}
	}})
	resp, body := call{path: "/api/backups"}.do(t, web.URL)
	for _, want := range []string{`"now":`, `"target":"/mnt"`, `"everySeconds":86400`, `"error":"disk full"`, `"backups":[{"name":"n","taken":5,"rows":7,"good":true,"result":"good"}]`} {
		if resp.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%d %s lacks %s", resp.StatusCode, body, want)
		}
	}
}

func TestBoardsAndStatus(t *testing.T) {
	s, web := start(t, parts{Open: true, Rejected: func() map[string]uint64 { return map[string]uint64{"foreign": 2, "oversized": 1} }})
	s.Hub().Publish("r1-01", 7000, of(readings{
		`pi_soc_temperature_celsius`:            61.5,
		`pi_cpu_clock_hertz{source="measured"}`: 1.2e9,
		`pi_throttled{reason="under_voltage"}`:  1,
		`pi_throttled{reason="throttled"}`:      0,
		`pi_board_up`:                           1,
	}))
	var got struct{ Boards []map[string]any }
	_, body := call{path: "/api/boards"}.do(t, web.URL)
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{
		{
			"name": "r1-01", "labels": map[string]any{"rack": "r1", "model": "Pi 3B"}, "enrolled": true, "enrolledAt": 1000.0, "lastReport": 7000.0,
			"up": true, "temperature": 61.5, "measured": 1.2e9, "throttled": []any{"under_voltage"},
		},
		{
			"name": "r1-02", "labels": map[string]any{"rack": "r1", "customer": "Kelp & Co", "model": "Pi 4B"},
			"enrolled": true, "throttled": nil,
		},
	}
	if diff := cmp.Diff(want, got.Boards); diff != "" {
		t.Errorf("boards (-want +got):\n%s", diff)
	}
	_, body = call{path: "/api/boards/r1-01"}.do(t, web.URL)
	if !strings.Contains(body, `{"series":"pi_cpu_clock_hertz{source=\"measured\"}","at":7000,"value":1200000000}`) {
		t.Errorf("board: %s", body)
	}
	if resp, _ := (call{path: "/api/boards/none"}).do(t, web.URL); resp.StatusCode != 404 {
		t.Errorf("unknown board: %d", resp.StatusCode)
	}
	_, body = call{path: "/api/status"}.do(t, web.URL)
	if !strings.Contains(body, `"rejectedTotal":3`) || !strings.Contains(body, `"foreign":2`) {
		t.Errorf("status: %s", body)
	}
}

func TestReadyProbe(t *testing.T) {
	var fault error
	_, web := start(t, parts{Auth: newTokens(), Ready: func() error { return fault }})
	f := func(want int) {
		t.Helper()
		if resp, body := (call{path: "/-/ready"}).do(t, web.URL); resp.StatusCode != want || strings.Contains(body, "disk") {
			t.Errorf("ready: %d %s, want %d", resp.StatusCode, body, want)
		}
	}
	f(200)
	fault = errors.New("disk /data is full")
	f(503)
}

func TestOptionsAreChecked(t *testing.T) {
	f := func(o parts, want string) {
		t.Helper()
		if _, err := New(o.options()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New: %v, want %q", err, want)
		}
	}
	f(parts{Open: true}, "Fleet")
	f(parts{Boards: twoBoards}, "Auth is missing")
	f(parts{Boards: twoBoards, Auth: newTokens(), Open: true}, "exclude")
}
