package domain

import (
	"slices"
	"time"

	"bramble/alerting/alert"
	"bramble/storage/series"
)

// Representatives are the firing alerts that may represent others: those of domains, and those of firmware bits. It is not
// safe for concurrent use.
type Representatives struct {
	domains  map[string][]alert.Transition // by the rule that led to them
	bits     map[string][]alert.Transition // by place
	pagesFor func(by, t *alert.Transition) bool
}

// NewRepresentatives returns an empty list. pagesFor reports whether the page of one alert serves another's receivers too;
// nil stands for never.
func NewRepresentatives(pagesFor func(by, t *alert.Transition) bool) *Representatives {
	if pagesFor == nil {
		pagesFor = func(_, _ *alert.Transition) bool { return false }
	}
	return &Representatives{domains: map[string][]alert.Transition{}, bits: map[string][]alert.Transition{}, pagesFor: pagesFor}
}

// Note puts an alert that fires on the list, and takes one that does not from it.
func (r *Representatives) Note(t alert.Transition) {
	if alert.IsDomainRule(t.Rule) {
		keepFiring(r.domains, alert.BaseRule(t.Rule), t)
	}
	if bitOf(&t) != 0 {
		keepFiring(r.bits, bitsPlace(&t), t)
	}
}

// Of returns the alert that represents this one: of a domain, or of another bit with the same cause; nil where there is
// none.
func (r *Representatives) Of(t alert.Transition) *alert.Transition {
	list := r.domains[alert.BaseRule(t.Rule)]
	rank := -1
	if d, ok := alert.DomainOf(&t); ok {
		rank = d.Rank()
	}
	for i := range list {
		if d, ok := alert.DomainOf(&list[i]); ok && d.Rank() > rank && list[i].Series != t.Series && d.Holds(t.Labels) {
			return &list[i]
		}
	}
	return r.sameCause(t)
}

// keepFiring puts an alert that fires on a list, and takes one that does not from it.
func keepFiring(lists map[string][]alert.Transition, key string, t alert.Transition) {
	list := slices.DeleteFunc(lists[key], func(o alert.Transition) bool { return o.Key() == t.Key() })
	if t.State.Active() {
		list = append(list, t)
	}
	if lists[key] = list; len(list) == 0 {
		delete(lists, key)
	}
}

// firmwareBit is a bit of the firmware's throttle state, by the label reason of its series: 0 for any other alert.
// Causes come before their consequences.
type firmwareBit uint8

const (
	bitUnderVoltage firmwareBit = iota + 1
	bitSoftLimit
	bitThrottled
	bitCapped
)

var firmwareBits = map[string]firmwareBit{
	"under_voltage": bitUnderVoltage, "soft_temperature_limit": bitSoftLimit, "throttled": bitThrottled, "frequency_capped": bitCapped,
}

// bitOf returns the bit that an alert of a board, or of a domain, is about.
func bitOf(t *alert.Transition) firmwareBit {
	if alert.IsBoardAlert(t) || alert.IsDomainRule(t.Rule) {
		return firmwareBits[t.Labels["reason"]]
	}
	return 0
}

// bitsPlace names the board, or the domain, whose bits an alert is about.
func bitsPlace(t *alert.Transition) string {
	if alert.IsDomainRule(t.Rule) {
		return t.Series
	}
	return series.Pair(alert.BoardLabel, t.Labels[alert.BoardLabel])
}

// causeWithin is how soon after its consequence a cause may show, and still be the same failure, in milliseconds. The
// firmware's bits are read once a second then.
const causeWithin = int64(10 * time.Second / time.Millisecond)

// explains reports whether two bits at one place have one cause, of which b has notified already. Low voltage and heat throttle
// and cap a clock; neither is the other's cause, and a cause that shows late is news.
func explains(b, t *alert.Transition) bool {
	first, then := bitOf(b), bitOf(t)
	switch {
	case first == then, first <= bitSoftLimit && then <= bitSoftLimit:
		return false
	case b.FiredAt == t.FiredAt:
		return first < then
	case then <= bitSoftLimit && t.FiredAt-b.FiredAt > causeWithin:
		return false
	}
	return b.FiredAt < t.FiredAt
}

// sameCause returns the alert of another bit at the same place that represents the failure already, nil where there is none.
// It must page everybody whom this one would, and be as severe.
func (r *Representatives) sameCause(t alert.Transition) *alert.Transition {
	if bitOf(&t) == 0 {
		return nil
	}
	list := r.bits[bitsPlace(&t)]
	for i := range list {
		if o := &list[i]; explains(o, &t) && alert.SeverityRank(o.Labels["severity"]) >= alert.SeverityRank(t.Labels["severity"]) && r.pagesFor(o, &t) {
			return o
		}
	}
	return nil
}
