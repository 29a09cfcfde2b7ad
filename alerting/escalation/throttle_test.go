package escalation

import (
	"fmt"
	"strings"
	"testing"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"

	"bramble/alerting/incident"
	"bramble/alerting/outbox"
)

const oneAda = `
people: [{name: ada, channels: [{receiver: ada-ntfy}]}]
policies: [{name: default, receivers: [oncall], steps: [{notify: [ada], wait: 1h}]}]
`

// TestBundleAcknowledged: a page that was put off and is acknowledged before it leaves is not sent any more.
func TestBundleAcknowledged(t *testing.T) {
	b := newBench(t, oneAda)
	var ids []string
	for i := range 4 {
		ids = append(ids, b.notify(1, fmt.Sprintf("b%d", i), true))
		b.deliver()
	}
	b.want(b.until(900*time.Millisecond), strings.Join([]string{"0s ada-ntfy", "0s ada-ntfy", never(b) + " ada-ntfy bundled", never(b) + " ada-ntfy bundled"}, ", "))
	b.tx(func(e *transaction) error { return e.acknowledge(ids[2], incident.Ack{By: "ada", At: e.now}) })
	b.want(b.until(10*time.Second), strings.Join([]string{"0s ada-ntfy", "0s ada-ntfy", never(b) + " ada-ntfy stopped", "1s ada-ntfy"}, ", "))
}

// TestABundleWaitsForMore: a third page within a minute leaves a second later; each that comes meanwhile begins the second
// anew, three in all.
func TestABundleWaitsForMore(t *testing.T) {
	f := func(more int, leaves string) {
		t.Helper()
		b := newBench(t, oneAda)
		for i := range 3 + more {
			if i > 2 {
				b.until(time.Duration(i-2) * 700 * time.Millisecond)
			}
			b.notify(1, fmt.Sprintf("b%d", i), true)
			b.deliver()
		}
		b.want(b.until(10*time.Second), "0s ada-ntfy, 0s ada-ntfy, "+leaves+" ada-ntfy")
	}
	f(0, "1s")
	f(1, "1.7s")
	f(4, "3s")
}

// never is how a page that was not sent looks.
func never(b *bench) string { return (time.Duration(-b.zero) * time.Millisecond).String() }

// A repeat is not queued behind the page that it would repeat.
func TestNoRepeatBehindAPageThatWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t, twoSteps)
	everybody := b.routes.Of("everybody")
	pages := func(reason notify.NotifyReason) (count int) {
		t.Helper()
		now := time.UnixMilli(b.zero)
		a := &amalert.Alert{Alert: model.Alert{Labels: model.LabelSet{"alertname": "SocHot", "board": "b1"}, StartsAt: now}}
		n := &Notification{
			Receiver: "everybody", Integrations: everybody, GroupKey: "g", Reason: reason, Now: now, Body: outbox.Body{Alerts: []*amalert.Alert{a}}, Alerts: []incident.Alert{AlertOf(a)},
		}
		b.tx(func(e *transaction) error { return grouping{e}.record(n) })
		if err := b.DB.QueryRowContext(t.Context(), `SELECT count(*) FROM page`).Scan(&count); err != nil {
			t.Fatal(err)
		}
		return count
	}
	if n := pages(notify.ReasonFirstNotification); n != 1 {
		t.Fatalf("%d pages", n)
	}
	if n := pages(notify.ReasonRepeatIntervalElapsed); n != 1 {
		t.Errorf("%d pages while the first one waits", n)
	}
	b.deliver()
	if n := pages(notify.ReasonRepeatIntervalElapsed); n != 2 {
		t.Errorf("%d pages after the first one was delivered", n)
	}
}
