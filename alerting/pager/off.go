package pager

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/alertmanager/dispatch"
	amlabels "github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/alertmanager/silence"

	"bramble/alerting/alert"
	"bramble/alerting/maintenance"
	"bramble/alerting/outbox"
)

// SilencesOff is the source for Alertmanager's silences.
func (p *Pager) SilencesOff(time.Time) (out []alert.Off) {
	active, _, err := p.silences.Query(context.Background(), silence.QState(silence.SilenceStateActive))
	if err != nil {
		p.log.Error("list silences", "err", err)
		return nil
	}
	for _, s := range active {
		w, err := watchSilence(s)
		if err != nil {
			continue // Alertmanager refuses such a one
		}
		o := alert.Off{
			Kind: alert.OffSilence, ID: s.Id, By: s.CreatedBy, Since: s.StartsAt.AsTime().UnixMilli(), Until: s.EndsAt.AsTime().UnixMilli(),
			Why: "silenced" + quoted(s.Comment), Boards: p.coverOf(w.sets...).Boards, Rules: p.rulesOf(w.sets),
		}
		var texts []string
		for _, ms := range w.sets {
			texts = append(texts, ms.String())
		}
		o.What = describe(&o, strings.Join(texts, " or "))
		out = append(out, o)
	}
	return out
}

// rulesOf names the rules that the matchers pick, none where they do not ask for an alert's name.
func (p *Pager) rulesOf(sets []amlabels.Matchers) (out []string) {
	picked := map[string]bool{}
	for _, ms := range sets {
		asked := false
		for _, m := range ms {
			if m.Name != alert.NameLabel {
				continue
			}
			asked = true
			if m.Type == amlabels.MatchEqual {
				picked[m.Value] = true
			}
			if p.boardAlerts != nil {
				for _, name := range p.boardAlerts() {
					if m.Matches(name) {
						picked[name] = true
					}
				}
			}
		}
		if !asked {
			return nil
		}
	}
	return slices.Sorted(maps.Keys(picked))
}

// describe names the suppressed alerts by the matchers of the suppression.
func describe(o *alert.Off, matchers string) string {
	boards := fmt.Sprintf("%d boards", len(o.Boards))
	switch {
	case len(o.Boards) == 1:
		boards = o.Boards[0]
	case len(o.Boards) == 0 && len(o.Rules) > 0:
		return alert.Enumerate(o.Rules) + " " + matchers
	case len(o.Boards) == 0:
		return "alerts with " + matchers
	}
	if len(o.Rules) > 0 {
		return fmt.Sprintf("%s on %s, %s", alert.Names(setOf(o.Rules), 4), boards, matchers)
	}
	return boards + ", " + matchers
}

func setOf(names []string) map[string]bool {
	out := map[string]bool{}
	for _, n := range names {
		out[n] = true
	}
	return out
}

// MaintenancesOff is the source for maintenances that run, or whose boards have not reported yet.
func (p *Pager) MaintenancesOff(now time.Time) (out []alert.Off) {
	fleet := p.mutes.maintenances.Fleet()
	for _, m := range p.mutes.maintenances.Current() {
		if now.UnixMilli() < m.StartsAt {
			continue
		}
		o := alert.Off{
			Kind: alert.OffMaintenance, ID: fmt.Sprint(m.Number), By: m.By, Since: m.StartsAt, Until: m.EndsAt,
			Why: fmt.Sprintf("maintenance %d%s", m.Number, quoted(m.Comment)), Boards: maintenance.Cover(m.Parsed, fleet, nil).Boards,
			Rules: p.rulesOf([]amlabels.Matchers{m.Parsed}),
		}
		if m.EndsAt <= now.UnixMilli() {
			o.Until, o.Why = m.ReturnBy, fmt.Sprintf("maintenance %d is over, and boards have a while to report", m.Number)
		}
		o.What = describe(&o, strings.Join(m.Matchers, ", "))
		out = append(out, o)
	}
	return out
}

// ReceiversOff is the source for receivers that take no page, or that are none.
func (p *Pager) ReceiversOff(now time.Time) (out []alert.Off) {
	r := p.routing.Load()
	if r.silent() {
		return []alert.Off{{Kind: alert.OffReceiver, Everything: true, What: "every alert", Why: "no receiver sends anything: the collector needs an alertmanager.yml with one"}}
	}
	used, broken := r.receivers(), 0
	for _, name := range used {
		if o, is := p.brokenReceiver(name, r, now); is {
			broken++
			out = append(out, o)
		}
	}
	for i := range out {
		out[i].Everything = broken == len(used)
	}
	return out
}

// receivers are those that a route leads to, or that are a person's channel, and that send something, in order.
func (r *routing) receivers() (names []string) {
	add := func(name string) {
		if name != alert.Watchdog && len(r.set.Integrations[name]) > 0 && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	r.tree.Walk(func(rt *dispatch.Route) { add(rt.RouteOpts.Receiver) })
	for _, person := range r.oncall.People {
		for _, c := range person.Channels {
			add(c.Receiver)
		}
	}
	slices.Sort(names)
	return names
}

// besides are further receivers for a notification that says that receivers fail, where its routes lead to no other: at most
// maxOthers, those that work before those that do not.
func (p *Pager) besides(n *notification, r *routing) []string {
	failing := map[string]bool{}
	for _, a := range n.alerts {
		if name := a.Labels["receiver"]; a.Labels["integration"] != "" {
			failing[name] = true
		}
	}
	now := time.Now()
	var reached []string
	if len(failing) > 0 {
		for _, rt := range r.tree.Match(alert.LabelSet(n.alerts[0].Labels)) {
			reached = append(reached, p.reached(rt.RouteOpts.Receiver, r, now)...)
		}
	}
	fails := func(name string) bool { return failing[name] }
	if len(reached) == 0 || slices.ContainsFunc(reached, func(name string) bool { return !fails(name) }) {
		return nil
	}
	var work, broken []string
	for _, name := range r.receivers() {
		if _, is := p.brokenReceiver(name, r, now); fails(name) || name == n.receiver {
			continue
		} else if is {
			broken = append(broken, name)
		} else {
			work = append(work, name)
		}
	}
	all := slices.Concat(work, broken)
	return all[:min(len(all), maxOthers)]
}

// reached are the receivers by which a receiver reaches anybody at a time: itself, or the channels and the fallback of its policy.
func (p *Pager) reached(receiver string, r *routing, now time.Time) (out []string) {
	if len(r.set.Integrations[receiver]) > 0 {
		out = append(out, receiver)
	}
	rotas := p.onCall()
	policy := rotas.PolicyOf(receiver)
	if policy == nil {
		return out
	}
	names := []string{policy.Fallback}
	for _, step := range policy.Steps {
		people, _ := rotas.Who(step, now)
		names = append(names, people...)
	}
	for _, name := range names {
		if person := rotas.Person(name); person != nil {
			for _, c := range person.Channels {
				out = append(out, c.Receiver)
			}
		} else if name != "" {
			out = append(out, name) // the fallback is a receiver
		}
	}
	return out
}

// brokenReceiver reports whether every integration of a receiver fails.
func (p *Pager) brokenReceiver(name string, r *routing, now time.Time) (alert.Off, bool) {
	o := alert.Off{Kind: alert.OffReceiver, What: "whatever goes to receiver " + name}
	for _, in := range r.set.Integrations[name] {
		h := p.health.Of(outbox.LaneOf(name, in.Name(), in.Index()))
		if h.Failing.IsZero() || !h.Failed && now.Sub(h.Failing) < outbox.BrokenAfter {
			return o, false
		}
		if o.Since == 0 || h.Failing.UnixMilli() < o.Since {
			o.Since = h.Failing.UnixMilli()
		}
		o.Why = fmt.Sprintf("%s takes no page: %s", in.Name(), h.Answer)
	}
	return o, true
}
