package alerting

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/marker"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"
)

// noteDomain keeps the list of domains' alerts that fire.
func (b *inbox) noteDomain(t Transition) {
	if !isDomainRule(t.Rule) {
		return
	}
	rule := baseRule(t.Rule)
	list := slices.DeleteFunc(b.domains[rule], func(o Transition) bool { return o.Series == t.Series })
	if t.State.Active() {
		list = append(list, t)
	}
	b.domains[rule] = list
}

// inhibiting returns the alert of a domain, or of what a maintenance left, that stands for this one; nil where there is
// none.
func (b *inbox) inhibiting(t Transition) *Transition {
	if l := b.left.of(&t); l != nil {
		return &l.alert
	}
	list := b.domains[baseRule(t.Rule)]
	kind := -1
	if d, ok := domainOf(&t); ok {
		kind = d.kind
	}
	for i := range list {
		if d, ok := domainOf(&list[i]); ok && d.kind > kind && list[i].Series != t.Series && d.holds(t.Labels) {
			return &list[i]
		}
	}
	return nil
}

// inhibitedBy returns the alert of a domain that stands for the alert with these labels.
func (p *Pager) inhibitedBy(fp model.Fingerprint) *Transition {
	p.inbox.mu.Lock()
	defer p.inbox.mu.Unlock()
	if l := p.inbox.live[fp]; l != nil {
		return p.inbox.inhibiting(l.last)
	}
	return nil
}

// stoodFor reports whether another alert stands for this one, or did when it ended: where both end together, a group that is
// flushed before its resolve has reached it still holds the alert as firing.
func (p *Pager) stoodFor(fp model.Fingerprint) bool {
	p.inbox.mu.Lock()
	defer p.inbox.mu.Unlock()
	l := p.inbox.live[fp]
	return l != nil && (l.quiet || p.inbox.inhibiting(l.last) != nil)
}

// domainInhibition takes alerts that a domain's alert stands for out of a notification, as Alertmanager's own inhibition
// does for the rules of its configuration; but it knows of a domain before any of its boards can be notified. Ended
// alerts pass: what was paged before the domain was known is told to be over.
type domainInhibition struct{ pager *Pager }

// Exec implements notify.Stage.
func (s domainInhibition) Exec(ctx context.Context, _ *slog.Logger, alerts ...*amalert.Alert) (context.Context, []*amalert.Alert, error) {
	now := time.Now()
	kept := make([]*amalert.Alert, 0, len(alerts))
	for _, a := range alerts {
		if a.ResolvedAt(now) || !s.pager.stoodFor(a.Fingerprint()) {
			kept = append(kept, a)
		}
	}
	return ctx, kept, nil
}

// markInhibited shows in the API which domain's alert stands for an alert.
func (p *Pager) markInhibited(ctx context.Context, labels model.LabelSet) {
	m, ok := marker.FromContext(ctx)
	if !ok {
		return
	}
	fp := labels.Fingerprint()
	if by := p.inhibitedBy(fp); by != nil {
		m.SetInhibited(fp, []string{labelSet(by.Labels).Fingerprint().String()})
	} else if by := p.mutes.book.holding(labels, time.Now().UnixMilli(), 0); by != nil {
		m.SetInhibited(fp, []string{fmt.Sprintf("maintenance %d", by.Number)})
	}
}

var _ notify.Stage = domainInhibition{}
