package pager

import (
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/alertmanager/dispatch"

	"bramble/alerting/alert"
	"bramble/alerting/escalation"
	"bramble/alerting/outbox"
)

// reach knows which receivers take pages, and by which somebody is reached. All methods are safe for concurrent use.
type reach struct {
	routing func() *routing
	rotas   *Rotas
	health  *outbox.Health
}

// off is the source for receivers that take no page, or that are none.
func (h *reach) off(now time.Time) (out []alert.Off) {
	r := h.routing()
	if r.silent() {
		return []alert.Off{{Kind: alert.OffReceiver, Everything: true, What: "every alert", Why: "no receiver sends anything: the collector needs an alertmanager.yml with one"}}
	}
	used, broken := r.receivers(), 0
	for _, name := range used {
		if o, is := h.brokenReceiver(name, r, now); is {
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
		if alert.KindOf(name) != alert.ToWatchdog && len(r.set.Integrations[name]) > 0 && !slices.Contains(names, name) {
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
func (h *reach) besides(n *escalation.Notification) []string {
	r := h.routing()
	failing := map[string]bool{}
	for _, a := range n.Alerts {
		if name := a.Labels["receiver"]; a.Labels["integration"] != "" {
			failing[name] = true
		}
	}
	now := time.Now()
	var reached []string
	if len(failing) > 0 {
		for _, rt := range r.tree.Match(alert.LabelSet(n.Alerts[0].Labels)) {
			reached = append(reached, h.reached(rt.RouteOpts.Receiver, r, now)...)
		}
	}
	fails := func(name string) bool { return failing[name] }
	if len(reached) == 0 || slices.ContainsFunc(reached, func(name string) bool { return !fails(name) }) {
		return nil
	}
	var work, broken []string
	for _, name := range r.receivers() {
		if _, is := h.brokenReceiver(name, r, now); fails(name) || name == n.Receiver {
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
func (h *reach) reached(receiver string, r *routing, now time.Time) (out []string) {
	if len(r.set.Integrations[receiver]) > 0 {
		out = append(out, receiver)
	}
	rotas := h.rotas.InForce()
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
func (h *reach) brokenReceiver(name string, r *routing, now time.Time) (alert.Off, bool) {
	o := alert.Off{Kind: alert.OffReceiver, What: "whatever goes to receiver " + name}
	for _, in := range r.set.Integrations[name] {
		state := h.health.Of(outbox.LaneOf(name, in.Name(), in.Index()))
		if state.Failing.IsZero() || !state.Failed && now.Sub(state.Failing) < outbox.BrokenAfter {
			return o, false
		}
		if o.Since == 0 || state.Failing.UnixMilli() < o.Since {
			o.Since = state.Failing.UnixMilli()
		}
		o.Why = fmt.Sprintf("%s takes no page: %s", in.Name(), state.Answer)
	}
	return o, true
}
