package live

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"bramble/dashboards/live/livetest"
)

// start serves a hub to an operator and closes everything when the test ends.
func start(t testing.TB, o Options) (*Hub, *httptest.Server) {
	t.Helper()
	o.Go = func(_ *http.Request, write func()) { write() }
	hub, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hub.Serve(w, r, Viewer{Name: "ada", Role: "operator", Still: func() bool { return true }})
	}))
	t.Cleanup(func() {
		hub.Close()
		web.Close()
	})
	return hub, web
}

func warm(t float64) []Value { return []Value{{"pi_soc_temperature_celsius", t}} }

func TestFleetSnapshotThenChanges(t *testing.T) {
	livetest.Leakless(t)
	hub, web := start(t, Options{Version: "1.2"})
	hub.Publish("r1-01", 1000, []Value{
		{"pi_soc_temperature_celsius", 50.5}, {"pi_board_up", 1}, {`pi_throttled{reason="throttled"}`, 1},
		{`pi_cpu_clock_hertz{source="requested"}`, 1.2e9}, {`pi_cpu_clock_hertz{source="measured"}`, 657e6},
	})
	b := livetest.Dial(t, web.URL, nil)
	if hello := b.Next("hello"); hello["version"] != "1.2" || hello["role"] != "operator" {
		t.Errorf("hello %v", hello)
	}
	b.Send(`{"type":"subscribe","fleet":true}`)
	first := b.Next("fleet")
	want := []any{map[string]any{
		"board": "r1-01", "at": 1000.0, "temperature": 50.5, "up": 1.0, "requested": 1.2e9, "measured": 657e6, "throttled": []any{"throttled"},
	}}
	if diff := cmp.Diff(want, first["boards"]); diff != "" || first["full"] != true {
		t.Errorf("snapshot %v (-want +got):\n%s", first, diff)
	}
	hub.Publish("r1-02", 2000, warm(61))
	change := b.Next("fleet")
	want = []any{map[string]any{"board": "r1-02", "at": 2000.0, "temperature": 61.0}}
	if diff := cmp.Diff(want, change["boards"]); diff != "" || change["full"] != false {
		t.Errorf("change %v (-want +got):\n%s", change, diff)
	}
}

// A board without a value has no field: absence is never a zero.
func TestMissingIsAbsent(t *testing.T) {
	livetest.Leakless(t)
	hub, web := start(t, Options{})
	hub.Publish("r1-01", 1000, []Value{{"pi_soc_temperature_celsius", 50}, {`pi_cpu_clock_hertz{source="measured"}`, 1e9}})
	hub.Publish("r1-01", 2000, []Value{{"pi_soc_temperature_celsius", math.NaN()}})
	b := livetest.Dial(t, web.URL, nil)
	b.Send(`{"type":"subscribe","fleet":true}`)
	got := b.Next("fleet")["boards"]
	want := []any{map[string]any{"board": "r1-01", "at": 2000.0, "measured": 1e9}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOldReadingsAreIgnored(t *testing.T) {
	livetest.Leakless(t)
	hub, _ := start(t, Options{})
	for _, at := range []int64{2000, 1000, 2000} {
		hub.Publish("r1-01", at, warm(float64(at)))
	}
	want := []Latest{{"pi_soc_temperature_celsius", 2000, 2000}}
	if diff := cmp.Diff(want, hub.Latest("r1-01")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Many readings of one board become few fleet messages, and the last one wins.
func TestFleetIsConflated(t *testing.T) {
	livetest.Leakless(t)
	hub, web := start(t, Options{})
	b := livetest.Dial(t, web.URL, nil)
	b.Send(`{"type":"subscribe","fleet":true}`)
	b.Next("fleet")
	const n = 2000
	for i := range int64(n) {
		hub.Publish("r1-01", i+1, warm(float64(i)))
	}
	messages := 0
	for {
		m := b.Next("fleet")
		messages++
		if m["boards"].([]any)[0].(map[string]any)["temperature"] == float64(n-1) {
			break
		}
	}
	if messages > 20 {
		t.Errorf("%d readings came as %d messages", n, messages)
	}
}

func TestBoardGetsEveryReading(t *testing.T) {
	livetest.Leakless(t)
	hub, web := start(t, Options{})
	b := livetest.Dial(t, web.URL, nil)
	b.Send(`{"type":"subscribe","board":"r1-01"}`)
	b.Send(`{"type":"subscribe","board":"no/such"}`)
	b.Next("error") // the first request has been handled before this answer
	for i := range int64(50) {
		hub.Publish("r1-02", i+1, warm(1))
		hub.Publish("r1-01", i+1, []Value{{`pi_cpu_clock_hertz{source="measured"}`, float64(i)}})
	}
	for i := range 50 {
		m := b.Next("reading")
		want := map[string]any{
			"type": "reading", "board": "r1-01", "at": float64(i + 1),
			"values": map[string]any{`pi_cpu_clock_hertz{source="measured"}`: float64(i)},
		}
		if diff := cmp.Diff(want, m); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
}

// A browser that does not read misses messages; Publish and other browsers do not wait for it.
func TestSlowBrowserIsSkipped(t *testing.T) {
	livetest.Leakless(t)
	hub, web := start(t, Options{})
	slow, quick := livetest.Dial(t, web.URL, nil), livetest.Dial(t, web.URL, nil)
	for _, b := range []*livetest.Browser{slow, quick} {
		b.Send(`{"type":"subscribe","board":"r1-01"}`)
		b.Send(`{"type":"subscribe","board":"-"}`)
		b.Next("error")
	}
	wide := make([]Value, 60)
	for i := range wide {
		wide[i] = Value{fmt.Sprintf(`pi_nfs_rtt_seconds{op="operation_%02d"}`, i), 0.123456}
	}
	published := make(chan int64, 1)
	go func() { // until the sockets' buffers and the queues are full, and no longer: who takes nothing for 10 s is cut off
		n := int64(0)
		for ; !hub.allSkipped(); n++ {
			hub.Publish("r1-01", n+1, wide)
		}
		published <- n
	}()
	var n int64
	select {
	case n = <-published:
	case <-time.After(30 * time.Second):
		t.Fatal("Publish waits for a browser that does not read")
	}
	hub.Publish("r1-01", n+1, warm(1))
	quick.Next("reading")
	slow.Next("skipped")
	hub.Publish("r1-01", n+2, warm(2))
	for {
		if m := slow.Next("reading"); m["at"] == float64(n+2) {
			return
		}
	}
}

// allSkipped is true when every browser has missed a message and has no room to be told so.
func (h *Hub) allSkipped() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.clients {
		if !c.skipped {
			return false
		}
	}
	return true
}

func TestBadMessages(t *testing.T) {
	livetest.Leakless(t)
	_, web := start(t, Options{})
	b := livetest.Dial(t, web.URL, nil)
	for _, text := range []string{`{`, `[]`, `{"type":"fly"}`, `{"type":"watch","board":"r1-01"}`} {
		b.Send(text)
		b.Next("error")
	}
	for i := range maxWatched {
		b.Send(fmt.Sprintf(`{"type":"subscribe","board":"b%d"}`, i))
	}
	b.Send(`{"type":"subscribe","board":"one-more"}`)
	b.Next("error")
	b.Send(`{"type":"subscribe","board":"` + strings.Repeat("x", readLimit) + `"}`)
	if _, _, err := b.Conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseMessageTooBig) {
		t.Errorf("after a large message: %v", err)
	}
}

func TestWatchingUnknownBoardsLeavesNothing(t *testing.T) {
	livetest.Leakless(t)
	hub, web := start(t, Options{})
	b := livetest.Dial(t, web.URL, nil)
	b.Send(`{"type":"subscribe","board":"ghost"}`)
	b.Send(`{"type":"unsubscribe","board":"ghost"}`)
	b.Send(`{"type":"unsubscribe","board":"ghost"}`)
	b.Send(`{`)
	b.Next("error")
	hub.mu.Lock()
	defer hub.mu.Unlock()
	if len(hub.boards) != 0 {
		t.Errorf("%d boards are kept", len(hub.boards))
	}
}

// Readings from before a time are another customer's; whether a board reports is of now.
func TestSinceLeavesOutOlderReadings(t *testing.T) {
	hub, _ := start(t, Options{})
	hub.Publish("r1-01", 1000, []Value{{"pi_board_up", 1}, {"pi_soc_temperature_celsius", 50}, {"pi_load1", 1}})
	hub.Publish("r1-01", 2000, []Value{{`pi_throttled{reason="throttled"}`, 1}, {"pi_core_volts", 1.2}, {"pi_fan_rpm", math.NaN()}})
	yes, fifty := true, 50.0

	got, readings := hub.Since("r1-01", 1500)
	if diff := cmp.Diff(State{LastReport: 2000, Up: &yes, Throttled: []string{"throttled"}}, got); diff != "" {
		t.Errorf("since 1500 (-want +got):\n%s", diff)
	}
	want := []Latest{{`pi_throttled{reason="throttled"}`, 2000, 1}, {"pi_core_volts", 2000, 1.2}}
	if diff := cmp.Diff(want, readings); diff != "" {
		t.Errorf("readings since 1500 (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(State{LastReport: 2000, Up: &yes, Temperature: &fifty, Throttled: []string{"throttled"}}, hub.State("r1-01")); diff != "" {
		t.Errorf("now (-want +got):\n%s", diff)
	}
	if got, readings := hub.Since("none", 0); !cmp.Equal(got, State{}) || readings != nil {
		t.Errorf("of a board that is not there: %v, %v", got, readings)
	}
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{`{"type":"subscribe","board":"r1-01"}`, `{"type":"watch"}`, `{`, `null`, `[]`, `{"board":"../x"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := parseRequest(data); err == nil && r.Board != "" && !ValidBoard(r.Board) {
			t.Errorf("board %q passed", r.Board)
		}
	})
}

// A fault where the fleet is shown ends the browsers' connections; those that come after begin with all there is.
func TestPanicInThePumpEndsTheConnections(t *testing.T) {
	livetest.Leakless(t)
	faults := make(chan string, 100)
	h, web := start(t, Options{Fault: func(where string, v any) { faults <- fmt.Sprint(where, ": ", v) }})
	h.Publish("b1", 1000, []Value{{Series: "pi_soc_temperature_celsius", Value: 50}})
	broken := func(yes bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.boards, "broken")
		if yes {
			h.boards["broken"] = nil
		}
	}
	broken(true)
	b := livetest.Dial(t, web.URL, nil)
	b.Send(`{"type":"subscribe","fleet":true}`)
	var err error
	for err == nil {
		_, _, err = b.Conn.ReadMessage()
	}
	if !websocket.IsCloseError(err, websocket.CloseInternalServerErr) {
		t.Errorf("the connection ends with %v", err)
	}
	if got := <-faults; !strings.HasPrefix(got, "send changes to browsers: ") {
		t.Errorf("heard of %q", got)
	}
	broken(false)
	after := livetest.Dial(t, web.URL, nil)
	after.Send(`{"type":"subscribe","fleet":true}`)
	if m := after.Next("fleet"); m["full"] != true || len(m["boards"].([]any)) != 1 {
		t.Errorf("the next browser sees %v", m)
	}
}
