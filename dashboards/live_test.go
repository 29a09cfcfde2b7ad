package dashboards

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"bramble/dashboards/live"
)

// leakless fails the test when a goroutine of the server outlives it. Call it first.
func leakless(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		goleak.VerifyNone(t, before)
	})
}

// patience ends a test that hangs. A machine that is busy with other tests may take a minute for a second's work.
const patience = 2 * time.Minute

// browser is a websocket client of the tests.
type browser struct {
	testing.TB
	conn *websocket.Conn
}

func dial(t testing.TB, web *httptest.Server, header http.Header) *browser {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(web.URL, "http")+"/live", header)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &browser{t, conn}
}

func (b *browser) send(text string) {
	b.Helper()
	if err := b.conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		b.Fatal(err)
	}
}

// next returns the next message of a type and skips others.
func (b *browser) next(kind string) map[string]any {
	b.Helper()
	if err := b.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		b.Fatal(err)
	}
	for {
		_, data, err := b.conn.ReadMessage()
		if err != nil {
			b.Fatalf("wait for %s: %v", kind, err)
		}
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			b.Fatalf("message %s: %v", data, err)
		}
		if m["type"] == kind {
			return m
		}
	}
}

// readings are values by their series.
type readings map[string]float64

// of lists readings as the hub takes them.
func of(r readings) []live.Value {
	var all []live.Value
	for series, v := range r {
		all = append(all, live.Value{Series: series, Value: v})
	}
	return all
}

func warm(t float64) []live.Value { return of(readings{"pi_soc_temperature_celsius": t}) }

func TestIncidentChangesArePushed(t *testing.T) {
	leakless(t)
	var state atomic.Value
	state.Store("firing")
	o := Options{Open: true, Incidents: func(context.Context) ([]Incident, error) {
		return []Incident{{ID: "1", Title: "hot", Severity: "critical", State: state.Load().(string), Since: 5}}, nil
	}}
	o.Acknowledge = func(context.Context, string, string, string) error { state.Store("acknowledged"); return nil }
	s, web := start(t, o)
	b := dial(t, web, nil)
	b.next("hello")
	stateOf := func(m map[string]any) any { return m["incidents"].([]any)[0].(map[string]any)["state"] }
	s.Hub().Alerts()
	if got := stateOf(b.next("incidents")); got != "firing" {
		t.Errorf("state %v", got)
	}
	if resp, _ := (call{method: "POST", path: "/api/incidents/1/ack"}).do(t, web.URL); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	if got := stateOf(b.next("incidents")); got != "acknowledged" {
		t.Errorf("state after acknowledging %v", got)
	}
}

func TestLease(t *testing.T) {
	leakless(t)
	asked := make(chan string, 1)
	o := Options{Auth: newTokens(), Watch: func(board, viewer string, d time.Duration) error {
		if board == "r1-02" {
			return fmt.Errorf("board is silent")
		}
		asked <- fmt.Sprint(board, " ", viewer, " ", d)
		return nil
	}}
	_, web := start(t, o)
	b := dial(t, web, http.Header{"Authorization": {"Bearer viewer-token"}})
	b.send(`{"type":"watch","board":"r1-01"}`)
	if m := b.next("watching"); m["board"] != "r1-01" || m["until"].(float64) < float64(time.Now().UnixMilli()) {
		t.Errorf("watching %v", m)
	}
	if got, want := <-asked, "r1-01 vic 30s"; got != want {
		t.Errorf("asked %q, want %q", got, want)
	}
	b.send(`{"type":"watch","board":"r1-02"}`)
	if m := b.next("error"); !strings.Contains(m["error"].(string), "silent") {
		t.Errorf("error %v", m)
	}
}

func TestCloseEndsBrowsers(t *testing.T) {
	leakless(t)
	s, web := start(t, Options{Open: true})
	b := dial(t, web, nil)
	b.next("hello")
	s.Close()
	if _, _, err := b.conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("after Close: %v", err)
	}
	s.Hub().Publish("r1-01", 1, warm(1))
	s.Hub().Alerts()
}
