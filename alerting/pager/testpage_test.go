package pager

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/rules"
)

// TestTestPages: a test page takes the whole way to the receiver that it is for, and one that fails is told by another.
func TestTestPages(t *testing.T) {
	t.Parallel()
	good, bad := newSink(t, nil), newSink(t, nil)
	config := fmt.Sprintf(`
route: {receiver: sms, routes: [{receiver: chat, matchers: [team = never]}]}
receivers:
- name: chat
  webhook_configs: [{url: %q}]
- name: sms
  webhook_configs: [{url: %q}]
- name: record
`, good.URL, bad.URL)
	db := openDB(t, t.TempDir())
	d := startStage(t, db, []byte(config), nil, nil)
	d.engine.SetRules(rules.Default().WithOwn())
	d.running(t)
	send := func(receiver string) alert.PageTest {
		t.Helper()
		one, err := d.pager.Tests().Start(t.Context(), receiver, "mira", time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.commit(d.engine.Test(one.Number, one.Receiver, true, time.Now())); err != nil {
			t.Fatal(err)
		}
		return one
	}
	decided := func() (one alert.PageTest) {
		t.Helper()
		d.until(t, "the test page is never decided", func() bool {
			all, err := d.pager.Tests().Decide(t.Context(), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			for _, one = range all {
				if err := d.commit(d.engine.Test(one.Number, one.Receiver, false, time.Now())); err != nil {
					t.Fatal(err)
				}
			}
			return len(all) > 0
		})
		return one
	}

	first := send("")
	if h := bad.next(t); h.said() != "firing TestPage " || h.Alerts[0].Labels["test_id"] != "1" {
		t.Errorf("page: %s %v", h.said(), h.Alerts[0].Labels)
	}
	if one := decided(); one.Number != first.Number || one.State != "delivered" || one.Receiver != "sms" || one.LatencyMs < 0 || one.LatencyMs > patience.Milliseconds() {
		t.Errorf("test %+v", one)
	}
	if h := bad.next(t); h.said() != "resolved TestPage " {
		t.Errorf("page: %s", h.said())
	}
	good.none(t, "the other receiver")

	bad.answerWith(func(_ int, w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no credit left", http.StatusPaymentRequired)
	})
	send("sms")
	one := decided()
	if one.State != "failed" || !strings.Contains(one.Answer, "402") {
		t.Errorf("test %+v", one)
	}
	failed, err := d.pager.Tests().Failed(t.Context())
	if err != nil || len(failed) != 1 || !failed["sms"] {
		t.Errorf("failed: %v %v", failed, err)
	}
	alarm := alert.Transition{Rule: "test pages/TestPageFailed", Series: `test_receiver="sms"`, From: alert.Inactive, State: alert.Firing,
		At: time.Now().UnixMilli(), FiredAt: time.Now().UnixMilli(), Labels: map[string]string{"alertname": "TestPageFailed", "test_receiver": "sms", "severity": "critical"}}
	if err := d.commit([]alert.Transition{alarm}); err != nil {
		t.Fatal(err)
	}
	if h := good.next(t); h.said() != "firing TestPageFailed " {
		t.Errorf("page: %s", h.said())
	}
	if _, err := d.pager.Tests().Start(t.Context(), "record", "mira", time.Time{}); !errors.Is(err, alert.ErrBadTest) || !strings.Contains(err.Error(), "there are chat and sms") {
		t.Errorf("a receiver that sends nothing: %v", err)
	}
	due := time.Now().Truncate(time.Minute)
	if _, err := d.pager.Tests().Start(t.Context(), "chat", "schedule", due); err != nil {
		t.Fatal(err)
	}
	if last, err := d.pager.Tests().LastScheduled(t.Context()); err != nil || !last.Equal(due) {
		t.Errorf("last scheduled %v, %v", last, err)
	}
	// Nothing delivers its alert: it fails in the end.
	late, err := d.pager.Tests().Decide(t.Context(), time.Now().Add(testWithin+time.Second))
	if err != nil || len(late) != 1 || late[0].State != "failed" || !strings.Contains(late[0].Answer, "no page was written within 2m0s") {
		t.Errorf("late: %+v %v", late, err)
	}
}

// TestTestPageOfPolicy: a test page to the receiver that stands for a policy pages whoever is on call, and its end ends it.
func TestTestPageOfPolicy(t *testing.T) {
	t.Parallel()
	s := newSink(t, nil)
	people := []string{"ada-ntfy", "jonas-ntfy", "everybody"}
	d := startStage(t, openDB(t, t.TempDir()), routed(s.URL, byBoard("everybody"), people...), nil, nil)
	if err := d.pager.ReloadWithOnCall(routed(s.URL, byBoard("oncall"), people...), []byte(steps("1h", "1h"))); err != nil {
		t.Fatal(err)
	}
	d.engine.SetRules(rules.Default().WithOwn())
	d.running(t)
	one, err := d.pager.Tests().Start(t.Context(), "", "mira", time.Time{})
	if err != nil || one.Receiver != "oncall" {
		t.Fatalf("test %+v, %v", one, err)
	}
	if err := d.commit(d.engine.Test(one.Number, one.Receiver, true, time.Now())); err != nil {
		t.Fatal(err)
	}
	if h := s.next(t); h.path != "/ada-ntfy" || h.said() != "firing TestPage " {
		t.Errorf("page: %s at %s", h.said(), h.path)
	}
	d.until(t, "the test page is never decided", func() bool {
		all, err := d.pager.Tests().Decide(t.Context(), time.Now())
		if err != nil || len(all) == 0 {
			return false
		}
		if all[0].State != "delivered" {
			t.Errorf("test %+v", all[0])
		}
		return d.commit(d.engine.Test(all[0].Number, all[0].Receiver, false, time.Now())) == nil
	})
	if h := s.next(t); h.path != "/ada-ntfy" || h.said() != "resolved TestPage " {
		t.Errorf("end: %s at %s", h.said(), h.path)
	}
	if _, err := d.pager.Tests().Start(t.Context(), alert.Watchdog, "mira", time.Time{}); err == nil {
		t.Error("the watchdog's receiver takes a test page")
	}
	s.none(t, "after the end")
}
