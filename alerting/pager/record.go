package pager

import (
	"context"
	"errors"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"

	"bramble/alerting/alert"
	"bramble/alerting/escalation"
	"bramble/alerting/fault"
	"bramble/alerting/outbox"
	"bramble/alerting/receivers"
)

// recorder stands in for all integrations of one receiver: it writes their messages into the database, in one
// transaction with the incident and the notification log, and returns.
type recorder struct {
	pager        *Pager
	receiver     string
	integrations []notify.Integration
}

// SendResolved implements notify.ResolvedSender: incidents end, whether the receiver sends resolves or not.
func (j *recorder) SendResolved() bool { return true }

// Notify implements notify.Notifier. Where the database cannot be written, or a fault is met, the page leaves at once,
// unrecorded: a page without a record is better than none.
func (j *recorder) Notify(ctx context.Context, alerts ...*amalert.Alert) (bool, error) {
	if !j.pager.enter() {
		return false, errClosed
	}
	defer j.pager.leave()
	p := j.pager
	var (
		n       *escalation.Notification
		effects *escalation.Effects
		err     = fault.Err
	)
	p.faults.Run("record a page", func() {
		n = j.takeApart(ctx, alerts)
		effects, err = p.escalation.Record(n)
	})
	if err != nil {
		group, _ := notify.GroupKey(ctx)
		p.log.Error("page not journalled; sending it unrecorded", "receiver", j.receiver, "group", group, "err", err)
		return j.sendUnrecorded(ctx, alerts)
	}
	// It is on disk. Each step stands alone, so that a fault in one keeps no message from leaving.
	p.faults.Run("note a notification", func() { p.inbox.handedOver(n) })
	if alert.KindOf(n.Receiver) == alert.ToWatchdog {
		p.outbox.Cancel(func(l *outbox.Message) bool { return l.Kind() == alert.ToWatchdog })
	}
	p.escalation.Settle(effects)
	return false, nil
}

func (j *recorder) takeApart(ctx context.Context, alerts []*amalert.Alert) *escalation.Notification {
	b, n := j.pager.inbox, &escalation.Notification{Receiver: j.receiver, Integrations: j.integrations, Now: time.Now()}
	n.GroupKey, _ = notify.GroupKey(ctx)
	n.Reason, _ = notify.NotificationReason(ctx)
	n.Firing, _ = notify.FiringAlerts(ctx)
	n.Resolved, _ = notify.ResolvedAlerts(ctx)
	n.Repeat, _ = notify.RepeatInterval(ctx)
	n.Body = outbox.Body{Now: n.Now, RepeatInterval: n.Repeat, Alerts: alerts, Way: b.wayOf(alerts)}
	n.Body.GroupLabels, _ = notify.GroupLabels(ctx)
	n.Body.RouteLabels, _ = notify.RouteLabels(ctx)
	for _, a := range alerts {
		in := escalation.AlertOf(a)
		in.Rule, in.Series, in.Boards = b.originOf(a.Fingerprint())
		n.Alerts, n.Paged = append(n.Alerts, in), append(n.Paged, b.paged(a.Fingerprint()))
	}
	return n
}

// sendUnrecorded sends at once a page that could not be written down, for a policy to those whom its first step pages.
func (j *recorder) sendUnrecorded(ctx context.Context, alerts []*amalert.Alert) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, receivers.TryTimeout)
	defer cancel()
	for i := range j.integrations {
		if retry, err := receivers.Notify(ctx, &j.integrations[i], alerts); err != nil {
			return retry, err
		}
	}
	retry, err := true, fault.Err // Alertmanager tries again
	j.pager.faults.Run("page without a record", func() { retry, err = j.pager.pageUnrecorded(ctx, j.receiver, alerts) })
	return retry, err
}

// pageUnrecorded gives alerts to the people of a policy's first step, each by the first channel that takes them. An error
// says that somebody was not reached; the notification is then tried again.
func (p *Pager) pageUnrecorded(ctx context.Context, receiver string, alerts []*amalert.Alert) (bool, error) {
	c := p.rotas.InForce()
	policy := c.PolicyOf(receiver)
	if policy == nil {
		return true, nil
	}
	people, _ := c.Who(policy.Steps[0], time.Now())
	var errs []error
	for _, name := range people {
		var err error
		for _, ch := range c.Person(name).Channels {
			if to := p.routing.Load().set.Only(ch.Receiver); to != nil {
				if _, err = receivers.Notify(ctx, to, alerts); err == nil {
					break
				}
			}
		}
		errs = append(errs, err)
	}
	return true, errors.Join(errs...)
}
