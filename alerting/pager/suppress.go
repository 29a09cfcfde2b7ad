package pager

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/marker"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/escalation"
	"bramble/alerting/fault"
	"bramble/alerting/rules"
)

// suppressor answers whether an alert that fires pages, and if not, names the reasons, their authors and their ends. The pipeline, the
// API, the escalation and the page of suppressed alerts ask it. All methods are safe for concurrent use.
type suppressor struct {
	am     *alertmanager
	inbox  *inbox
	mutes  *mutes
	faults *fault.Guard
	engine *rules.Engine // nil for none
	tree   func() *dispatch.Route
}

// question is about one alert at one time.
type question struct {
	labels model.LabelSet
	fp     model.Fingerprint
	now    time.Time
	// ours says that the alert is the engine's, for callers that know it, or that hold the inbox's lock.
	ours bool
	// route and group are those of the notification that the alert is in; empty outside of one.
	route, group string
}

func ask(labels model.LabelSet, now time.Time) question {
	return question{labels: labels, fp: labels.Fingerprint(), now: now}
}

// reason is one row of the precedence: a kind of suppression, whether it holds an alert, and by whom and until when.
type reason struct {
	kind  string
	holds func(*suppressor, question) bool
	tell  func(*suppressor, question, *alert.Suppression)
}

// precedence is the order in which the reasons are asked; docs/alerting.md has it as a table. The alert that a maintenance or a silence
// left represents its alerts before they are let go, so it is asked after them: the other way round an alert could slip through between.
var precedence = []reason{
	{alert.ByMaintenance, (*suppressor).maintained, (*suppressor).tellMaintenance},
	{alert.BySilence, (*suppressor).silenced, (*suppressor).tellSilence},
	{alert.ByStillFiring, (*suppressor).leftOver, (*suppressor).tellLeft},
	{alert.ByRepresentative, (*suppressor).represented, (*suppressor).tellRepresentative},
	{alert.ByInhibition, (*suppressor).inhibited, (*suppressor).tellInhibition},
	{alert.ByInterval, (*suppressor).outOfHours, nil},
	{alert.ByEnd, (*suppressor).conditionOver, nil},
}

// mutedBy are the kinds that people and the routes' configuration decide: no other alert is asked.
var mutedBy = []string{alert.ByMaintenance, alert.BySilence, alert.ByInhibition}

// suppressedBy are the kinds that keep an alert from paging while its condition holds.
var suppressedBy = append(slices.Clone(mutedBy), alert.ByStillFiring, alert.ByRepresentative)

// by reports whether one of these kinds of suppression holds an alert. A question that cannot be answered suppresses nothing.
func (s *suppressor) by(q question, kinds ...string) bool {
	for _, r := range precedence {
		if slices.Contains(kinds, r.kind) && s.faults.Ask("find the "+r.kind+" of an alert", func() bool { return r.holds(s, q) }) {
			return true
		}
	}
	return false
}

// muted reports whether a maintenance, a silence or an inhibition keeps an alert of the engine's from paging. It takes no lock of the
// inbox.
func (s *suppressor) muted(labels model.LabelSet) bool {
	q := ask(labels, time.Now())
	q.ours = true
	return s.by(q, mutedBy...)
}

// suppressed reports whether anything keeps an alert from paging, though its condition holds.
func (s *suppressor) suppressed(labels model.LabelSet) bool {
	return s.by(ask(labels, time.Now()), suppressedBy...)
}

// of returns all that suppresses an alert, in the order of precedence; nothing where it pages.
func (s *suppressor) of(labels model.LabelSet) (out []alert.Suppression) {
	q := ask(labels, time.Now())
	for _, r := range precedence {
		if !s.by(q, r.kind) {
			continue
		}
		one := alert.Suppression{Kind: r.kind}
		if r.tell != nil {
			s.faults.Run("tell the "+r.kind+" of an alert", func() { r.tell(s, q, &one) })
		}
		out = append(out, one)
	}
	return out
}

// all returns the alerts that fire and page nobody now, by name and labels, limit at most, and how many there are.
func (s *suppressor) all(limit int) (out []alert.Suppressed, n int) {
	out = []alert.Suppressed{}
	firing := s.inbox.firing()
	slices.SortFunc(firing, func(a, b alert.Transition) int {
		return strings.Compare(alert.LabelText(a.Labels), alert.LabelText(b.Labels))
	})
	for _, t := range firing {
		labels := alert.LabelSet(t.Labels)
		if !s.by(ask(labels, time.Now()), append(slices.Clone(suppressedBy), alert.ByEnd)...) {
			continue
		}
		if n++; n <= limit {
			out = append(out, alert.Suppressed{Labels: t.Labels, FiredAt: t.FiredAt, Suppressions: s.of(labels)})
		}
	}
	return out, n
}

func (s *suppressor) maintained(q question) bool {
	return s.mutes.maintenances.Holding(q.labels, q.now.UnixMilli(), 0) != nil
}

func (s *suppressor) tellMaintenance(q question, out *alert.Suppression) {
	if m := s.mutes.maintenances.Holding(q.labels, q.now.UnixMilli(), 0); m != nil {
		out.By, out.ID, out.Until = m.By, fmt.Sprint(m.Number), m.ReturnBy
	}
}

// silenced also holds for a silence that is over, as long as the page for the alerts it left is not written. That is the engine's alerts'
// business: for those that came by the API a silence ends as Alertmanager's do.
func (s *suppressor) silenced(q question) bool {
	return s.am.silencer.Mutes(context.Background(), q.labels) ||
		(q.ours || s.inbox.isOurs(q.fp)) && s.mutes.watching(q.labels) != nil
}

func (s *suppressor) tellSilence(q question, out *alert.Suppression) {
	ctx, m := marked()
	s.am.silencer.Mutes(ctx, q.labels)
	for _, id := range m.Status(q.fp).SilencedBy {
		found, err := s.am.silences.QueryOne(ctx, silence.QIDs(id))
		if err != nil {
			continue
		}
		if ends := found.EndsAt.AsTime().UnixMilli(); ends > out.Until { // the last to end keeps it from paging
			out.By, out.ID, out.Until = found.CreatedBy, id, ends
		}
	}
	if w := s.mutes.watching(q.labels); w != nil && out.ID == "" {
		out.By, out.ID = w.CreatedBy, w.Id
	}
}

// leftOver holds for an alert that still fired when a maintenance or a silence ended: one alert stands for all of those.
func (s *suppressor) leftOver(q question) bool {
	s.inbox.mu.Lock()
	defer s.inbox.mu.Unlock()
	l := s.inbox.live[q.fp]
	return l != nil && s.inbox.left.of(&l.last) != nil
}

// represented holds for an alert that another one stands for, or did when it ended: where both end together, a group that is flushed
// before its resolve has reached it still holds the alert as firing.
func (s *suppressor) represented(q question) bool {
	s.inbox.mu.Lock()
	defer s.inbox.mu.Unlock()
	l := s.inbox.live[q.fp]
	return l != nil && (l.quiet || s.inbox.represent.Of(l.last) != nil)
}

func (s *suppressor) tellLeft(q question, out *alert.Suppression) {
	s.inbox.mu.Lock()
	defer s.inbox.mu.Unlock()
	if l := s.inbox.live[q.fp]; l != nil {
		if left := s.inbox.left.of(&l.last); left != nil {
			name(&left.alert, out)
		}
	}
}

func (s *suppressor) tellRepresentative(q question, out *alert.Suppression) {
	s.inbox.mu.Lock()
	defer s.inbox.mu.Unlock()
	if l := s.inbox.live[q.fp]; l != nil {
		if by := s.inbox.represent.Of(l.last); by != nil {
			name(by, out)
		}
	}
}

// name says that an alert stands for another one.
func name(by *alert.Transition, out *alert.Suppression) {
	out.By, out.ID = alert.Text(by.Labels, by.Annotations), alert.LabelSet(by.Labels).Fingerprint().String()
}

func (s *suppressor) inhibited(q question) bool {
	d := s.am.dispatch.Load()
	return d != nil && d.inhibitor.Mutes(context.Background(), q.labels)
}

func (s *suppressor) tellInhibition(q question, out *alert.Suppression) {
	d := s.am.dispatch.Load()
	if d == nil {
		return
	}
	ctx, m := marked()
	d.inhibitor.Mutes(ctx, q.labels)
	for _, id := range m.Status(q.fp).InhibitedBy {
		fp, err := model.FingerprintFromString(id)
		if err != nil {
			continue
		}
		if by, err := s.am.alerts.Get(fp); err == nil {
			source := escalation.AlertOf(by)
			out.By, out.ID = alert.Text(source.Labels, source.Annotations), id
		}
	}
}

// marked returns a context in which Alertmanager's parts note an alert's silences and inhibitions.
func marked() (context.Context, marker.AlertMarker) {
	m := marker.NewAlertMarker()
	return marker.WithContext(context.Background(), m), m
}

// outOfHours holds where a time interval of the routes muted the alert's group when it was last to be notified.
func (s *suppressor) outOfHours(q question) bool {
	if q.group == "" {
		return false
	}
	_, muted := s.am.groupMarker.Muted(q.route, q.group)
	return muted
}

// conditionOver holds for an alert that something has suppressed until now, and whose condition has ended meanwhile. Nobody knows
// that of an alert that another program has posted.
func (s *suppressor) conditionOver(q question) bool {
	return s.inbox.wasSuppressed(q.fp) && s.overSince(q.fp) != 0
}

// Silenced reports whether somebody works where an alert is: a silence or a maintenance holds it, or it still fired when one ended.
func (p *Pager) Silenced(t *alert.Transition) bool {
	q := ask(alert.LabelSet(t.Labels), time.Now())
	q.ours = true
	if p.suppress.by(q, alert.ByMaintenance, alert.BySilence) {
		return true
	}
	p.inbox.mu.Lock() // after the others, as in the precedence
	defer p.inbox.mu.Unlock()
	return p.inbox.left.of(t) != nil
}

// Suppressed returns the alerts that fire and page nobody now, 200 at most, and how many there are.
func (p *Pager) Suppressed() ([]alert.Suppressed, int) { return p.suppress.all(maxSuppressed) }

// maxSuppressed bounds a list of suppressed alerts: a silence may hold a fleet.
const maxSuppressed = 200

// pagesFor reports whether an alert that fires pages all receivers that another one would. Callers hold the inbox's lock.
func (s *suppressor) pagesFor(by, t *alert.Transition) bool {
	labels := alert.LabelSet(by.Labels)
	if s.muted(labels) {
		return false
	}
	tree := s.tree()
	told := map[string]bool{}
	for _, r := range tree.Match(labels) {
		told[r.RouteOpts.Receiver] = true
	}
	return !slices.ContainsFunc(tree.Match(alert.LabelSet(t.Labels)), func(r *dispatch.Route) bool { return !told[r.RouteOpts.Receiver] })
}

// suppressStage takes suppressed alerts out of a notification before Alertmanager's own stages see them. Ended ones pass: the end of an
// alert that was paged before is notified. An alert that something has suppressed until now, and whose condition is over by the newest
// reading, is taken out too: only keep_firing_for keeps it, and it pages once the condition holds again. One that was never suppressed
// pages although its condition is over: that is the page of a short crossing.
type suppressStage struct{ *suppressor }

var _ notify.Stage = suppressStage{}

// Exec implements notify.Stage.
func (s suppressStage) Exec(ctx context.Context, _ *slog.Logger, alerts ...*amalert.Alert) (context.Context, []*amalert.Alert, error) {
	now := time.Now()
	route, _ := notify.RouteID(ctx)
	group, _ := notify.GroupKey(ctx)
	var over []*amalert.Alert
	firing, out := 0, map[*amalert.Alert]bool{}
	for _, a := range alerts {
		if a.ResolvedAt(now) {
			continue
		}
		firing++
		q := ask(a.Labels, now)
		q.route, q.group = route, group
		switch {
		case s.by(q, suppressedBy...):
			s.inbox.setSuppressed(q.fp, true)
			out[a] = true
		case s.by(q, alert.ByInterval): // Alertmanager's stage for it takes it out, and notes when it ends
			s.inbox.setSuppressed(q.fp, true)
		case s.by(q, alert.ByEnd):
			over = append(over, a)
		default:
			s.inbox.setSuppressed(q.fp, false)
		}
	}
	for _, a := range over {
		// One that was paged is missed by its group as long as the others are told: it stays among them.
		out[a] = len(over) == firing || !s.inbox.paged(a.Fingerprint())
	}
	return ctx, slices.DeleteFunc(slices.Clone(alerts), func(a *amalert.Alert) bool { return out[a] }), nil
}

// note notes which alerts begin, cool or fire again while something suppresses them.
func (s *suppressor) note(firing []*amalert.Alert) {
	for _, a := range firing {
		if s.suppressed(a.Labels) {
			s.inbox.setSuppressed(a.Fingerprint(), true)
		}
	}
}

// allSuppressed reports whether something suppresses every one of these alerts.
func (s *suppressor) allSuppressed(firing []*amalert.Alert) bool {
	for _, a := range firing {
		if !s.suppressed(a.Labels) {
			return false
		}
	}
	return len(firing) > 0
}

// overSince is since when the condition of an alert is over, 0 where it holds or nobody knows. Two rules may share an alert.
func (s *suppressor) overSince(fp model.Fingerprint) (at int64) {
	for _, t := range s.inbox.firingOf(fp) {
		c := s.condition(t)
		if c.Over == 0 {
			return 0
		}
		at = max(at, c.Over)
	}
	return at
}

// condition returns how the condition of an alert stands, given its last transition.
func (s *suppressor) condition(t alert.Transition) (c rules.Condition) {
	if s.engine != nil {
		return s.engine.Condition(t)
	}
	if t.State == alert.Cooling {
		c.Over = t.At
	}
	return c
}

// mark adds an alert's suppressions to those that Alertmanager's own parts have marked for the API. It knows silences and inhibitions: a
// maintenance ("maintenance 4") and an alert that stands for another count as inhibitions.
func (s *suppressor) mark(ctx context.Context, labels model.LabelSet) {
	m, ok := marker.FromContext(ctx)
	if !ok {
		return
	}
	fp := labels.Fingerprint()
	status := m.Status(fp)
	silenced, inhibited := status.SilencedBy, status.InhibitedBy
	for _, one := range s.of(labels) {
		list, id := &inhibited, one.ID
		switch one.Kind {
		case alert.BySilence:
			list = &silenced
		case alert.ByMaintenance:
			id = "maintenance " + id
		}
		if id != "" && !slices.Contains(*list, id) {
			*list = append(*list, id)
		}
	}
	m.SetSilenced(fp, silenced)
	m.SetInhibited(fp, inhibited)
}

// inhibiting returns the alert that represents this one: of a maintenance or a silence that is over, of a domain, or of
// another bit with the same cause; nil where there is none.
func (b *inbox) inhibiting(t alert.Transition) *alert.Transition {
	if l := b.left.of(&t); l != nil {
		return &l.alert
	}
	return b.represent.Of(t)
}

func (b *inbox) setSuppressed(fp model.Fingerprint, suppressed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.live[fp]; l != nil {
		l.suppressed = suppressed
	}
}

// wasSuppressed reports whether something has kept an alert that fires from paging, and its condition was not seen to hold since.
func (b *inbox) wasSuppressed(fp model.Fingerprint) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.live[fp]
	return l != nil && l.suppressed && len(l.firing) > 0
}

// isOurs reports whether an alert is the engine's, not one that came by the API.
func (b *inbox) isOurs(fp model.Fingerprint) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.live[fp]
	return l != nil && l.last.Rule != ""
}

// firingOf returns the transitions that made an alert fire, none for one that another program has posted.
func (b *inbox) firingOf(fp model.Fingerprint) []alert.Transition {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.live[fp]; l != nil {
		return slices.Collect(maps.Values(l.firing))
	}
	return nil
}

// firing returns the last transition of each alert that fires.
func (b *inbox) firing() (out []alert.Transition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.live {
		if len(l.firing) > 0 {
			out = append(out, l.last)
		}
	}
	return out
}
