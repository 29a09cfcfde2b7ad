package alerting

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/marker"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/rules"
)

// inhibiting returns the alert that represents this one: of a maintenance or a silence that is over, of a domain, or of
// another bit with the same cause; nil where there is none.
func (b *inbox) inhibiting(t alert.Transition) *alert.Transition {
	if l := b.left.of(&t); l != nil {
		return &l.alert
	}
	return b.represent.Of(t)
}

// pagesFor reports whether an alert that fires pages all receivers that another one would.
func (p *Pager) pagesFor(by, t *alert.Transition) bool {
	if p.muted(alert.LabelSet(by.Labels)) {
		return false
	}
	tree := p.routing.Load().tree
	told := map[string]bool{}
	for _, r := range tree.Match(alert.LabelSet(by.Labels)) {
		told[r.RouteOpts.Receiver] = true
	}
	return !slices.ContainsFunc(tree.Match(alert.LabelSet(t.Labels)), func(r *dispatch.Route) bool { return !told[r.RouteOpts.Receiver] })
}

// inhibitedBy returns the alert of a domain that stands for the alert with these labels.
func (p *Pager) inhibitedBy(fp model.Fingerprint) *alert.Transition {
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

// releaseStage takes alerts out of a notification that something has suppressed until now, and whose condition is over by
// the newest reading: only keep_firing_for keeps them. They page once it holds again. An alert that was never suppressed
// pages although its condition is over: that is the page of a short crossing.
type releaseStage struct{ pager *Pager }

// Exec implements notify.Stage.
func (s releaseStage) Exec(ctx context.Context, _ *slog.Logger, alerts ...*amalert.Alert) (context.Context, []*amalert.Alert, error) {
	now := time.Now()
	muted := s.pager.groupMuted(ctx)
	var over []*amalert.Alert
	firing := 0
	for _, a := range alerts {
		if a.ResolvedAt(now) {
			continue
		}
		firing++
		if s.pager.releasedOver(a, muted) {
			over = append(over, a)
		}
	}
	if len(over) == 0 {
		return ctx, alerts, nil
	}
	kept := slices.DeleteFunc(slices.Clone(alerts), func(a *amalert.Alert) bool {
		// One that was paged is missed by its group as long as the others are told: it stays among them.
		return slices.Contains(over, a) && (len(over) == firing || !s.pager.paged(a.Fingerprint()))
	})
	return ctx, kept, nil
}

// groupMuted reports whether a time interval of the routes muted the group when it was last to be notified.
func (p *Pager) groupMuted(ctx context.Context) bool {
	route, _ := notify.RouteID(ctx)
	key, _ := notify.GroupKey(ctx)
	_, muted := p.groupMarker.Muted(route, key)
	return muted
}

// suppresses reports whether anything keeps an alert from paging now: a silence, a maintenance, an inhibition, or an alert
// that represents it.
func (p *Pager) suppresses(a *amalert.Alert) bool {
	return p.stoodFor(a.Fingerprint()) || p.muted(a.Labels)
}

// noteSuppressed notes which alerts begin, cool or fire again while something suppresses them.
func (p *Pager) noteSuppressed(firing []*amalert.Alert) {
	for _, a := range firing {
		if p.suppresses(a) {
			p.setSuppressed(a.Fingerprint(), true)
		}
	}
}

func (p *Pager) setSuppressed(fp model.Fingerprint, suppressed bool) {
	p.inbox.mu.Lock()
	defer p.inbox.mu.Unlock()
	if l := p.inbox.live[fp]; l != nil {
		l.suppressed = suppressed
	}
}

// releasedOver reports whether nothing suppresses an alert any more and its condition has ended meanwhile. Nobody knows
// that of an alert that another program has posted.
func (p *Pager) releasedOver(a *amalert.Alert, groupMuted bool) bool {
	fp := a.Fingerprint()
	if groupMuted || p.suppresses(a) {
		p.setSuppressed(fp, true) // the stages behind this one take it out
		return false
	}
	p.inbox.mu.Lock()
	l := p.inbox.live[fp]
	if l == nil || !l.suppressed || len(l.firing) == 0 {
		p.inbox.mu.Unlock()
		return false
	}
	p.inbox.mu.Unlock()
	if p.overSince(fp) != 0 {
		return true
	}
	p.setSuppressed(fp, false)
	return false
}

// overSince is since when the condition of an alert is over, 0 where it holds or nobody knows. Two rules may share an alert.
func (p *Pager) overSince(fp model.Fingerprint) (at int64) {
	for _, t := range p.firingOf(fp) {
		c := p.condition(t)
		if c.Over == 0 {
			return 0
		}
		at = max(at, c.Over)
	}
	return at
}

// firingOf returns the transitions that made an alert fire, none for one that another program has posted.
func (p *Pager) firingOf(fp model.Fingerprint) []alert.Transition {
	p.inbox.mu.Lock()
	defer p.inbox.mu.Unlock()
	if l := p.inbox.live[fp]; l != nil {
		return slices.Collect(maps.Values(l.firing))
	}
	return nil
}

// condition returns how the condition of an alert stands, given its last transition.
func (p *Pager) condition(t alert.Transition) (c rules.Condition) {
	if p.engine != nil {
		return p.engine.Condition(t)
	}
	if t.State == alert.Cooling {
		c.Over = t.At
	}
	return c
}

// markInhibited shows in the API which domain's alert stands for an alert.
func (p *Pager) markInhibited(ctx context.Context, labels model.LabelSet) {
	m, ok := marker.FromContext(ctx)
	if !ok {
		return
	}
	fp := labels.Fingerprint()
	if by := p.inhibitedBy(fp); by != nil {
		m.SetInhibited(fp, []string{alert.LabelSet(by.Labels).Fingerprint().String()})
	} else if by := p.mutes.book.Holding(labels, time.Now().UnixMilli(), 0); by != nil {
		m.SetInhibited(fp, []string{fmt.Sprintf("maintenance %d", by.Number)})
	}
}

var _ notify.Stage = domainInhibition{}
