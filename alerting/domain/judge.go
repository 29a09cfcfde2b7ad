package domain

import (
	"time"

	"bramble/alerting/alert"
)

// Fate is the outcome of an alert that begins to fire.
type Fate int

// The zero Fate is Paged.
const (
	Paged     Fate = iota // somebody is paged
	Explained             // a domain's page represents it
	Recorded              // it is recorded, and pages nobody
)

// Judged is an alert that began to fire, and its fate.
type Judged struct {
	alert.Transition
	Fate Fate
	// Domain is the title of the domain whose failure this is, "" for a board's own or the collector's.
	Domain string
}

// Judge finds the fates of the alerts of one rule that is replayed, with the domains that decide real ones.
// Alertmanager's grouping and silences are not applied. It is not safe for concurrent use.
type Judge struct {
	fleet     *fleetIndex
	domains   *state
	represent *Representatives
	shadow    bool
	rule      string
}

// NewJudge returns one that knows of no alert yet, for the rule with this ID and these labels. The past is judged by where
// boards stand now.
func NewJudge(rule string, labels map[string]string, fleet map[string]alert.Place) *Judge {
	return &Judge{fleet: indexFleet(fleet), domains: newState(), represent: NewRepresentatives(nil), shadow: alert.InShadow(labels), rule: rule}
}

// Take takes the rule's transitions of one time, lets domains settle, and returns the alerts that begin to fire.
func (j *Judge) Take(at time.Time, ts []alert.Transition) (out []Judged) {
	if len(ts) == 0 && len(j.domains.open[j.rule]) == 0 {
		return nil
	}
	var fx effects
	for _, t := range ts {
		j.domains.take(&fx, t, at, j.fleet)
	}
	j.domains.decide(&fx, at.Add(SettleFor), j.fleet, func(*alert.Transition) bool { return false })
	for _, t := range fx.commit {
		j.domains.take(&fx, t, at, j.fleet)
	}
	for _, t := range fx.pass {
		j.represent.Note(t)
		if t.State == alert.Firing && !t.From.Active() {
			out = append(out, j.judge(t))
		}
	}
	return out
}

func (j *Judge) judge(t alert.Transition) Judged {
	out := Judged{Transition: t}
	switch {
	case j.represent.Of(t) != nil:
		out.Fate = Explained
	case j.shadow, alert.PagesNobody(t.Labels):
		out.Fate = Recorded
	}
	if d, ok := alert.DomainOf(&t); ok {
		out.Domain = d.Title()
	}
	return out
}
