package pager

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bramble/alerting/alert"
	"bramble/alerting/alerttest"
	"bramble/alerting/escalation"
	"bramble/alerting/incident"
	"bramble/alerting/outbox"
)

// TestWhatIsOff: silences, maintenances and receivers that fail are listed, and counted without counting a board twice.
func TestWhatIsOff(t *testing.T) {
	t.Parallel()
	sk := newSink(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no such number", http.StatusNotFound)
	})
	places := ownFleet(2, 2, 8)
	d := startGuarded(t, t.TempDir(), sk.URL, places)
	d.pager.mutes.boardAlerts = d.engine.BoardAlerts
	d.running(t)
	off := func() alert.OffReport {
		return alert.WhatIsOff(time.Now(), len(places), d.pager.Off()...)
	}
	if r := off(); len(r.Items) != 0 || r.Everything {
		t.Errorf("at the start: %+v", r)
	}
	silence := func(matchers, comment string) {
		t.Helper()
		body := fmt.Sprintf(`{"matchers":[%s],"startsAt":%q,"endsAt":%q,"createdBy":"mira","comment":%q}`, matchers,
			time.Now().UTC().Format(time.RFC3339Nano), time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano), comment)
		r := httptest.NewRequest(http.MethodPost, "/api/v2/silences", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		if d.pager.Handler().ServeHTTP(w, r); w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	silence(`{"name":"board","value":"r1-a-01","isRegex":false}`, "known")
	silence(`{"name":"alertname","value":"DiskFull","isRegex":false}`, "about the collector: no confirmation")
	silence(`{"name":"alertname","value":"Clock.*|BoardS.*","isRegex":true}`, "noisy: confirm 32")
	m := d.begin(t, 8, `switch="r1-a"`)
	r := off()
	if r.Boards != 8 || r.Rules != 3 || r.Everything || len(r.Items) != 4 {
		t.Errorf("%d boards, %d rules, everything %v, %+v", r.Boards, r.Rules, r.Everything, r.Items)
	}
	var what []string
	for _, o := range r.Items {
		what = append(what, o.Kind+": "+o.What+", "+o.Why)
	}
	slices.Sort(what)
	want := []string{
		`maintenance: 8 boards, switch="r1-a", maintenance 1, “new PSU”`,
		`silence: BoardSilent, ClockOff on 32 boards, {alertname=~"Clock.*|BoardS.*"}, silenced, “noisy: confirm 32”`,
		`silence: DiskFull {alertname="DiskFull"}, silenced, “about the collector: no confirmation”`,
		`silence: r1-a-01, {board="r1-a-01"}, silenced, “known”`,
	}
	if diff := cmp.Diff(want, what); diff != "" {
		t.Errorf("off (-want +got):\n%s", diff)
	}
	d.end(t, m)
	d.waitClosed(t)
	if err := d.commit([]alert.Transition{alerttest.Fire("elsewhere", time.Now())}); err != nil {
		t.Fatal(err)
	}
	d.pager.until(t, "refused again and again", func(in incident.Incident) bool {
		return len(in.Pages) > 0 && in.Pages[0].Attempts >= escalation.TriesBeforeNext
	})
	r = off()
	i := slices.IndexFunc(r.Items, func(o alert.Off) bool { return o.Kind == alert.OffReceiver })
	if !r.Everything || i < 0 || r.Items[i].What != "whatever goes to receiver oncall" || !strings.Contains(r.Items[i].Why, "404") {
		t.Errorf("with a broken receiver: %+v", r)
	}
	h := outbox.NewHealth()
	if err := h.Load(t.Context(), d.pager.db); err != nil || h.Of("oncall/webhook/0").Failing.IsZero() {
		t.Errorf("after a restart: %+v, %v", h.Of("oncall/webhook/0"), err)
	}
	sk.answerWith(nil)
	if err := d.commit([]alert.Transition{alerttest.Fire("again", time.Now())}); err != nil {
		t.Fatal(err)
	}
	d.pager.until(t, "delivered", pageState("delivered"))
	if r := off(); r.Everything || len(r.Items) != 3 {
		t.Errorf("mended: %+v", r)
	}
	if err := d.pager.Reload(nil); err != nil {
		t.Fatal(err)
	}
	if r := off(); !r.Everything {
		t.Errorf("without a receiver: %+v", r)
	}
}
