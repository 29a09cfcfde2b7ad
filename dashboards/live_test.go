package dashboards

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"bramble/dashboards/live"
	"bramble/dashboards/live/livetest"
)

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
	livetest.Leakless(t)
	var state atomic.Value
	state.Store("firing")
	o := parts{Open: true, Incidents: func(context.Context) ([]Incident, error) {
		return []Incident{{ID: "1", Title: "hot", Severity: "critical", State: state.Load().(string), Since: 5}}, nil
	}}
	o.Acknowledge = func(context.Context, string, string, string) error { state.Store("acknowledged"); return nil }
	s, web := start(t, o)
	b := livetest.Dial(t, web.URL+"/live", nil)
	b.Next("hello")
	stateOf := func(m map[string]any) any { return m["incidents"].([]any)[0].(map[string]any)["state"] }
	s.Hub().Alerts()
	if got := stateOf(b.Next("incidents")); got != "firing" {
		t.Errorf("state %v", got)
	}
	if resp, _ := (call{method: "POST", path: "/api/incidents/1/ack"}).do(t, web.URL); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	if got := stateOf(b.Next("incidents")); got != "acknowledged" {
		t.Errorf("state after acknowledging %v", got)
	}
}

func TestLease(t *testing.T) {
	livetest.Leakless(t)
	asked := make(chan string, 1)
	o := parts{Auth: newTokens(), Watch: func(board, viewer string, d time.Duration) error {
		if board == "r1-02" {
			return fmt.Errorf("board is silent")
		}
		asked <- fmt.Sprint(board, " ", viewer, " ", d)
		return nil
	}}
	_, web := start(t, o)
	b := livetest.Dial(t, web.URL+"/live", http.Header{"Authorization": {"Bearer viewer-token"}})
	b.Send(`{"type":"watch","board":"r1-01"}`)
	if m := b.Next("watching"); m["board"] != "r1-01" || m["until"].(float64) < float64(time.Now().UnixMilli()) {
		t.Errorf("watching %v", m)
	}
	if got, want := <-asked, "r1-01 vic 30s"; got != want {
		t.Errorf("asked %q, want %q", got, want)
	}
	b.Send(`{"type":"watch","board":"r1-02"}`)
	if m := b.Next("error"); !strings.Contains(m["error"].(string), "silent") {
		t.Errorf("error %v", m)
	}
}

func TestCloseEndsBrowsers(t *testing.T) {
	livetest.Leakless(t)
	s, web := start(t, parts{Open: true})
	b := livetest.Dial(t, web.URL+"/live", nil)
	b.Next("hello")
	s.Close()
	if _, _, err := b.Conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("after Close: %v", err)
	}
	s.Hub().Publish("r1-01", 1, warm(1))
	s.Hub().Alerts()
}
