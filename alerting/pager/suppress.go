package pager

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
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
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/database"
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

// isRepresented reports whether another alert stands for this one, or did when it ended: where both end together, a group that is
// flushed before its resolve has reached it still holds the alert as firing.
func (p *Pager) isRepresented(fp model.Fingerprint) bool {
	p.inbox.mu.Lock()
	defer p.inbox.mu.Unlock()
	l := p.inbox.live[fp]
	return l != nil && (l.quiet || p.inbox.inhibiting(l.last) != nil)
}

// domainInhibition takes alerts that a domain's alert stands for out of a notification, as Alertmanager's own inhibition
// does for the rules of its configuration; but it knows of a domain before any of its boards can be notified. Ended
// alerts pass: the end of an alert that was paged before the domain was known is notified.
type domainInhibition struct{ pager *Pager }

// Exec implements notify.Stage.
func (s domainInhibition) Exec(ctx context.Context, _ *slog.Logger, alerts ...*amalert.Alert) (context.Context, []*amalert.Alert, error) {
	now := time.Now()
	kept := make([]*amalert.Alert, 0, len(alerts))
	for _, a := range alerts {
		if a.ResolvedAt(now) || !s.pager.faults.ask("find an alert that represents another", func() bool { return s.pager.isRepresented(a.Fingerprint()) }) {
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
	muted := s.pager.faults.ask("read whether a group is muted", func() bool { return s.pager.groupMuted(ctx) })
	var over []*amalert.Alert
	firing := 0
	for _, a := range alerts {
		if a.ResolvedAt(now) {
			continue
		}
		firing++
		if s.pager.faults.ask("read whether a condition is over", func() bool { return s.pager.releasedOver(a, muted) }) {
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
	return p.isRepresented(a.Fingerprint()) || p.muted(a.Labels)
}

// noteSuppressed notes which alerts begin, cool or fire again while something suppresses them.
func (p *Pager) noteSuppressed(firing []*amalert.Alert) {
	for _, a := range firing {
		if p.faults.ask("read whether an alert is suppressed", func() bool { return p.suppresses(a) }) {
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
	} else if by := p.mutes.maintenances.Holding(labels, time.Now().UnixMilli(), 0); by != nil {
		m.SetInhibited(fp, []string{fmt.Sprintf("maintenance %d", by.Number)})
	}
}

var _ notify.Stage = domainInhibition{}

// leftRulePrefix names the alerts that represent those that still fired when a maintenance or a silence ended.
const leftRulePrefix = "left "

// Names of these alerts.
const (
	leftByMaintenance = "NotBackAfterMaintenance"
	leftBySilence     = "StillFiringAfterSilence"
)

// stillFiring holds the alerts that fire when a maintenance or a silence ends and were never paged: one alert represents all of them, until
// the last of its members is over.
type stillFiring struct {
	id      string
	alert   alert.Transition
	members map[string]int64 // FiredAt by Transition.Key
}

// stillFirings are those that are open. The inbox's lock guards them.
type stillFirings struct {
	open   map[string]*stillFiring
	member map[string]*stillFiring // by Transition.Key
}

func newStillFirings() stillFirings {
	return stillFirings{open: map[string]*stillFiring{}, member: map[string]*stillFiring{}}
}

// of returns the one that represents an alert, nil for none.
func (ls *stillFirings) of(t *alert.Transition) *stillFiring {
	if l := ls.member[t.Key()]; l != nil && l.members[t.Key()] == t.FiredAt {
		return l
	}
	return nil
}

func (ls *stillFirings) add(l *stillFiring) {
	ls.open[l.id] = l
	for key := range l.members {
		ls.member[key] = l
	}
}

// end takes an alert that is over out of the one that represents it.
func (ls *stillFirings) end(key string) {
	if l := ls.member[key]; l != nil {
		delete(l.members, key)
		delete(ls.member, key)
	}
}

// keep drops the members that do not fire any more, by FiredAt of those that do.
func (ls *stillFirings) keep(firing map[string]int64) {
	for key, l := range maps.Clone(ls.member) {
		if firing[key] != l.members[key] {
			ls.end(key)
		}
	}
}

// ended returns, and forgets, the alerts of those without members.
func (ls *stillFirings) ended(now time.Time) (out []alert.Transition) {
	for _, id := range slices.Sorted(maps.Keys(ls.open)) {
		l := ls.open[id]
		if len(l.members) > 0 {
			continue
		}
		delete(ls.open, id)
		t := l.alert
		t.From, t.State, t.At, t.Received = alert.Firing, alert.Inactive, max(now.UnixMilli(), t.At+1), now.UnixMilli()
		out = append(out, t)
	}
	return out
}

// firing returns the alerts of all that is open.
func (ls *stillFirings) firing() (out []alert.Transition) {
	for _, id := range slices.Sorted(maps.Keys(ls.open)) {
		out = append(out, ls.open[id].alert)
	}
	return out
}

// ending is a maintenance or a silence that is over.
type ending struct {
	id, name string // "maintenance 4", and the alert's name
	over     int64
	summary  string // completes "3 boards "
	about    string // one sentence
	label    string // the label that holds which one it was
	labels   map[string]string
	boards   int // that it covered, 0 where that is not known
}

// stillFiring writes the alert for the members that still fire after an end. members must not be empty.
func (e ending) stillFiring(members []alert.Transition, now time.Time) *stillFiring {
	l := &stillFiring{id: e.id, members: map[string]int64{}}
	boards := map[string][]string{}
	severity, labels := "", sharedPlace(members)
	for _, t := range members {
		l.members[t.Key()] = t.FiredAt
		boards[t.Labels[alert.BoardLabel]] = append(boards[t.Labels[alert.BoardLabel]], t.Labels[alert.NameLabel])
		if s := t.Labels["severity"]; alert.SeverityRank(s) > alert.SeverityRank(severity) {
			severity = s
		}
	}
	maps.Copy(labels, e.labels)
	maps.Copy(labels, map[string]string{alert.NameLabel: e.name, e.label: strings.TrimPrefix(e.id, e.label+" ")})
	if severity != "" {
		labels["severity"] = severity
	}
	names := slices.Sorted(maps.Keys(boards))
	count := fmt.Sprintf("%d of %d boards", len(names), e.boards)
	switch {
	case len(names) == 1:
		labels[alert.BoardLabel] = names[0]
		count = names[0]
	case e.boards < len(names):
		count = fmt.Sprintf("%d boards", len(names))
	}
	var what []string
	for _, b := range names {
		slices.Sort(boards[b])
		what = append(what, b+" ("+strings.Join(slices.Compact(boards[b]), ", ")+")")
	}
	shown := what[:min(len(what), 50)]
	list := alert.Enumerate(shown)
	if more := len(what) - len(shown); more > 0 {
		list = fmt.Sprintf("%s and %d more", strings.Join(shown, ", "), more)
	}
	at := now.UnixMilli()
	l.alert = alert.Transition{
		Rule: leftRulePrefix + e.id, Series: labelKeyOf(labels), Labels: labels, From: alert.Inactive, State: alert.Firing, At: at, Since: e.over, FiredAt: at,
		Received: at, Value: alert.Value(len(names)), Boards: names,
		Annotations: map[string]string{
			"what": strings.TrimPrefix(e.summary, " "), "summary": placeText(labels) + count + " " + e.summary,
			alert.ReasonNote: e.about + " What still fires: " + list + ".",
			"description":    "Nobody was paged for these boards while it lasted; this page stands for all of them, and ends when the last of them is well.",
			"runbook":        "Ask who worked there first. Then look at what these boards share: a port, a cable, a power supply, the image they boot.",
		},
	}
	return l
}

// labelKeyOf is the canonical form of labels.
func labelKeyOf(labels map[string]string) string { return strings.Trim(alert.LabelText(labels), "{}") }

// sharedPlace are the labels of domains that all members have in common.
func sharedPlace(members []alert.Transition) map[string]string {
	out := map[string]string{}
	for _, k := range alert.DomainKinds {
		v := members[0].Labels[k.Name]
		if v != "" && !slices.ContainsFunc(members, func(t alert.Transition) bool { return t.Labels[k.Name] != v }) {
			out[k.Name] = v
		}
	}
	return out
}

// placeText names the smallest shared place: "Rack r7: ".
func placeText(labels map[string]string) string {
	for _, k := range alert.DomainKinds {
		if v := labels[k.Name]; v != "" && labels[alert.BoardLabel] == "" {
			return alert.Upper(k.Text) + " " + v + ": "
		}
	}
	return ""
}

func insertStillFiring(ctx context.Context, db database.Querier, l *stillFiring) error {
	alert, err := json.Marshal(l.alert)
	if err != nil {
		return fmt.Errorf("encode what %s left: %w", l.id, err)
	}
	members, err := json.Marshal(l.members)
	if err != nil {
		return fmt.Errorf("encode what %s left: %w", l.id, err)
	}
	if _, err = db.ExecContext(ctx, `INSERT OR REPLACE INTO alert_still_firing (id, transition, members) VALUES (?,?,?)`, l.id, string(alert), string(members)); err != nil {
		return fmt.Errorf("write what %s left: %w", l.id, err)
	}
	return nil
}

func readStillFiring(ctx context.Context, db database.Querier) (out []*stillFiring, err error) {
	rows, err := db.QueryContext(ctx, `SELECT id, transition, members FROM alert_still_firing ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("read alerts after maintenances and silences: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			l            stillFiring
			one, members string
		)
		if err := rows.Scan(&l.id, &one, &members); err != nil {
			return nil, fmt.Errorf("read alerts after maintenances and silences: %w", err)
		}
		if l.alert, err = alert.DecodeTransition([]byte(one)); err == nil {
			err = json.Unmarshal([]byte(members), &l.members)
		}
		if err != nil {
			return nil, fmt.Errorf("decode what %s left: %w", l.id, err)
		}
		out = append(out, &l)
	}
	return out, rows.Err()
}

// forgetStillFiring drops the rows of those that are over. Where that fails, a restart finds them without members.
func (p *Pager) forgetStillFiring(ended []alert.Transition) {
	if len(ended) == 0 {
		return
	}
	err := p.commits.Do(func(c *sql.Conn) error {
		for _, t := range ended {
			if _, err := c.ExecContext(context.Background(), `DELETE FROM alert_still_firing WHERE id = ?`, strings.TrimPrefix(t.Rule, leftRulePrefix)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		p.log.Error("forget what a maintenance or a silence left", "err", err)
	}
}

// pagesSomebody reports whether an alert of a board would page on its own.
func pagesSomebody(t *alert.Transition) bool {
	return !alert.PagesDomainsOnly(t) || t.Labels[alert.CustomerLabel] == ""
}

// sortMembers puts alerts in a stable order.
func sortMembers(ts []alert.Transition) {
	slices.SortFunc(ts, func(a, b alert.Transition) int { return cmp.Compare(a.Key(), b.Key()) })
}
