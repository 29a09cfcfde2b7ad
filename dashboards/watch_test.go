package dashboards

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"bramble/alerting/alert"
)

// watcher is a Watcher over a map, which refuses the name "bad".
func watcher(got *[]string) *watchers {
	now := time.Now().UnixMilli()
	return &watchers{
		List: func() []Heartbeat {
			return []Heartbeat{
				{Name: "east", By: "token east", WithinSeconds: 180, LastAt: now - 10_000, Deadline: now + 170_000},
				{Name: "nightly", By: "token cron", WithinSeconds: 90_000, LastAt: now - 100_000_000, Deadline: now - 10_000_000, Overdue: true, Message: "12 GB copied"},
			}
		},
		Beat: func(_ context.Context, name string, b Beat) (Heartbeat, error) {
			if name == "bad" {
				return Heartbeat{}, fmt.Errorf("%w: name", ErrBadHeartbeat)
			}
			*got = append(*got, fmt.Sprint(name, b))
			return Heartbeat{Name: name}, nil
		},
		Remove: func(_ context.Context, name string) error {
			if name != "east" {
				return ErrUnknownHeartbeat
			}
			return nil
		},
		Beats: func() *Beats {
			return &Beats{EverySeconds: 60, SentAt: now - 300_000, Error: "no beat: page 7 is overdue by 2m0s"}
		},
		Tests: func(context.Context) ([]alert.PageTest, error) {
			return []alert.PageTest{
				{Number: 2, Receiver: "sms", State: "failed", At: now - 5000, By: "mira", Answer: "webhook: 402 no credit left"},
				{Number: 1, Receiver: "mail", State: "delivered", At: now - 100_000, By: "schedule", ScheduledFor: now - 100_000, LatencyMs: 640},
			}, nil
		},
		Test: func(_ context.Context, receiver, who string) (alert.PageTest, error) {
			if receiver == "nobody" {
				return alert.PageTest{}, fmt.Errorf("%w: no receiver", alert.ErrBadTest)
			}
			*got = append(*got, receiver+" "+who)
			return alert.PageTest{Number: 3, Receiver: "mail"}, nil
		},
	}
}

func TestHeartbeatAPI(t *testing.T) {
	var got []string
	auth := newTokens()
	auth.users["beating-token"] = User{Name: "token cron", Role: Beating}
	_, web := start(t, parts{Auth: auth, Watcher: watcher(&got)})
	f := func(method, path, token, body string, code int, want string) {
		t.Helper()
		resp, answer := (call{method: method, path: path, token: token, body: body}).do(t, web.URL)
		if resp.StatusCode != code || !strings.Contains(answer, want) {
			t.Errorf("%s %s: %d %s, want %d %s", path, body, resp.StatusCode, answer, code, want)
		}
	}
	f("POST", "/api/heartbeats/nightly", "", "", 401, "token create")
	f("POST", "/api/heartbeats/nightly", "beating-token", "", 200, `"name":"nightly"`)
	f("POST", "/api/heartbeats/nightly", "beating-token", `{"within":"25h","message":"ok","board":"r1-01"}`, 200, "nightly")
	f("POST", "/api/heartbeats/bad", "beating-token", "", 400, "bad heartbeat")
	for body, want := range map[string]string{`{`: "decode heartbeat", `{"within":"soon"}`: "within", `{"within":"0s"}`: "within", `{"at":1}`: "unknown field"} {
		f("POST", "/api/heartbeats/nightly", "beating-token", body, 400, want)
	}
	for _, path := range []string{"/api/heartbeats", "/api/boards", "/api/oncall/test", "/metrics"} {
		f("GET", path, "beating-token", "", 403, "role heartbeat may not do this")
	}
	f("DELETE", "/api/heartbeats/east", "beating-token", "", 403, "operator")
	f("DELETE", "/api/heartbeats/east", "operator-token", "", 200, "east")
	f("DELETE", "/api/heartbeats/west", "operator-token", "", 404, "no heartbeat west")
	f("GET", "/api/heartbeats", "viewer-token", "", 200, `"watchdog":{"everySeconds":60`)
	f("POST", "/api/oncall/test", "viewer-token", "", 403, "operator")
	f("POST", "/api/oncall/test", "operator-token", "", 200, `"number":3`)
	f("POST", "/api/oncall/test", "operator-token", `{"receiver":"sms"}`, 200, `"number":3`)
	f("POST", "/api/oncall/test", "operator-token", `{"receiver":"nobody"}`, 400, "no receiver")
	f("POST", "/api/oncall/test", "operator-token", `{"who":1}`, 400, "decode test page")
	want := "nightly{0s   token cron} | nightly{25h0m0s r1-01 ok token cron} |  mira | sms mira"
	if all := strings.Join(got, " | "); all != want {
		t.Errorf("got  %s\nwant %s", all, want)
	}
	resp, _ := call{path: "/", token: "beating-token"}.do(t, web.URL)
	if resp.StatusCode != 403 {
		t.Errorf("a page for a token that may only beat: %d", resp.StatusCode)
	}
}

func TestWatchPage(t *testing.T) {
	var got []string
	_, web := start(t, parts{Open: true, Watcher: watcher(&got)})
	b := openTab(t, web.URL)
	b.open("/watch")
	b.text("#heartbeat-list li.bad", "overdue for 2 h 46 m · 12 GB copied")
	b.text("#beats", "Not sent: no beat: page 7 is overdue by 2m0s")
	b.text("#test-list li.bad", "failed: webhook: 402 no credit left")
	b.script(`document.getElementById("test-go").click()`)
	b.text("#test-said", "Test page 3 is on its way to mail.")
	b.clean()
}

func FuzzBeat(f *testing.F) {
	f.Add([]byte(`{"within":"25h","board":"r1-01","message":"x"}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, b []byte) {
		if beat, err := decodeBeat(b); err == nil && beat.Within < 0 {
			t.Errorf("%s: %v", b, beat)
		}
	})
}
