package alerting

import (
	"context"
	"slices"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/provider"
	"github.com/prometheus/common/model"
)

const (
	// orderAtMost bounds how long an update of an alert waits for the one before it: the dispatcher takes updates in within
	// microseconds, and a page must not hang on it.
	orderAtMost = 10 * time.Second
	// orderPoll is how often the dispatcher is looked at meanwhile; it tells nobody what it has taken in.
	orderPoll = time.Millisecond
)

// order keeps the updates of one alert in their order. Alertmanager's dispatcher reads them with several goroutines: of
// two that come closely the later can be overtaken, and its group keeps the earlier one for good, a resolve that nobody
// hears of. So an update waits until the one before it is in its groups. It holds what is not known to be there. The
// inbox's take guards it.
type order map[model.Fingerprint]*amalert.Alert

// orderedAlerts is Alertmanager's store for those who post alerts to the API: their updates keep their order as well.
type orderedAlerts struct {
	provider.Alerts
	pager *Pager
}

// Put implements provider.Alerts.
func (o orderedAlerts) Put(ctx context.Context, alerts ...*amalert.Alert) error {
	p := o.pager
	p.inbox.take.Lock()
	defer p.inbox.take.Unlock()
	alerts = latest(alerts)
	p.inOrder(alerts)
	if err := o.Alerts.Put(ctx, alerts...); err != nil {
		return err
	}
	for _, a := range alerts {
		// The store merges what it is given with what it has.
		if stored, err := p.alerts.Get(a.Fingerprint()); err == nil {
			p.inbox.order[a.Fingerprint()] = stored
		}
	}
	return nil
}

// latest drops all but the last update of each alert.
func latest(alerts []*amalert.Alert) []*amalert.Alert {
	at := map[model.Fingerprint]int{}
	var out []*amalert.Alert
	for _, a := range alerts {
		fp := a.Fingerprint()
		if i, ok := at[fp]; ok {
			out[i] = a
			continue
		}
		at[fp] = len(out)
		out = append(out, a)
	}
	return out
}

// inOrder returns when the dispatcher has the last updates of these alerts.
func (p *Pager) inOrder(alerts []*amalert.Alert) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for end := time.Now().Add(orderAtMost); p.onTheWay(alerts); {
		if time.Now().After(end) {
			p.log.Error("alerts are not taken in: later ones do not wait for them", "alerts", len(alerts), "after", orderAtMost)
			clear(p.inbox.order)
			return
		}
		timer.Reset(orderPoll)
		<-timer.C
	}
}

// onTheWay reports whether an earlier update of one of the alerts is not in its groups yet.
func (p *Pager) onTheWay(alerts []*amalert.Alert) bool {
	sent := func(a *amalert.Alert) bool { return p.inbox.order[a.Fingerprint()] != nil }
	if p.dispatch.Load() == nil || !slices.ContainsFunc(alerts, sent) {
		return false // a dispatcher that starts reads the whole store
	}
	p.lookAtOrder()
	return slices.ContainsFunc(alerts, sent)
}

// lookAtOrder forgets what the dispatcher has taken in.
func (p *Pager) lookAtOrder() {
	o, d := p.inbox.order, p.dispatch.Load()
	if d == nil || len(o) == 0 {
		return
	}
	has, older := map[model.Fingerprint]int{}, map[model.Fingerprint]bool{}
	ctx, cancel := context.WithTimeout(context.Background(), orderAtMost)
	defer cancel()
	_, _, err := d.dispatcher.Groups(ctx, func(*dispatch.Route) bool { return true }, func(a *amalert.Alert, _ time.Time) bool {
		fp := a.Fingerprint()
		if last := o[fp]; last != nil && a.UpdatedAt.Before(last.UpdatedAt) {
			older[fp] = true
		} else if last != nil {
			has[fp]++
		}
		return false
	})
	if err != nil {
		return
	}
	for fp, a := range o {
		// A resolve leaves its groups when it is notified.
		if !older[fp] && (a.Resolved() || has[fp] >= len(d.tree.Match(a.Labels))) {
			delete(o, fp)
		}
	}
}
