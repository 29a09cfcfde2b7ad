package alerting

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/rules"
)

const (
	// fleetAge is how old the list of boards may be when domains are decided.
	fleetAge = time.Second
	// decideAgain is the pause after a decision that met a fault.
	decideAgain = time.Second
)

// DomainsOptions configure a Domains. All but Log are needed.
type DomainsOptions struct {
	// Engine keeps the alerts of domains with its own, so that its checkpoint and Firing have them.
	Engine *rules.Engine
	// Fleet returns where every board of the registry stands. It is first called by Run.
	Fleet func() map[string]alert.Place
	// Commit journals transitions and then calls Deliver with them.
	Commit func([]alert.Transition) error
	Pager  *Pager
	Log    *slog.Logger
}

// Domains stands between the journal and the pager and makes one failure one page: where a switch, a rack, an NFS
// server or a site explains the alerts of boards, its own alert pages and theirs are inhibited. An alert of a board
// that shares something with others waits up to half a second for that. All methods are safe for concurrent use.
type Domains struct {
	DomainsOptions
	wake chan struct{}

	mu      sync.Mutex // held while transitions go to the pager, which keeps their order and never blocks
	state   *domainState
	running bool        // Run runs
	fleet   *fleetIndex // nil before
	indexed time.Time
}

// NewDomains returns one that knows of nothing but what an earlier one held back.
func NewDomains(o DomainsOptions) *Domains {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	d := &Domains{DomainsOptions: o, wake: make(chan struct{}, 1), state: newDomainState()}
	d.Deliver(o.Pager.Held())
	return d
}

// Deliver takes transitions that are journalled, those of a replay included. It never blocks for long.
func (d *Domains) Deliver(ts []alert.Transition) {
	if len(ts) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Pager.Deliver(d.take(ts))
	d.ring()
}

// Resume tells what fires, once after a start: Engine.Firing. Call it after Deliver was given what the journal holds,
// and before Run.
func (d *Domains) Resume(firing []alert.Transition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	pass := d.take(firing)
	var held []alert.Transition
	for _, t := range firing {
		if a := d.state.alerts[t.Rule][t.Key()]; a != nil && !a.passed {
			held = append(held, t)
		}
	}
	d.Pager.Resume(pass, held)
}

// take feeds transitions to the state: a domain's begin first and its end last, so that no board stands alone for a
// moment in between. It returns those to be handed on. The caller holds mu.
func (d *Domains) take(ts []alert.Transition) (pass []alert.Transition) {
	ordered := slices.Clone(ts)
	slices.SortStableFunc(ordered, func(a, b alert.Transition) int { return cmp.Compare(domainOrder(a), domainOrder(b)) })
	if !d.Pager.faults.guard("find the domain of an alert", func() { pass = d.feed(ordered) }) {
		pass = d.rebuild(ordered)
	}
	return pass
}

func (d *Domains) feed(ts []alert.Transition) []alert.Transition {
	var fx domainEffects
	now := time.Now()
	d.index(now)
	for _, t := range ts {
		t.Journalled = now.UnixMilli()
		d.state.take(&fx, t, now, d.fleet)
	}
	return fx.pass
}

// rebuild makes the state anew after a fault that left it half changed: from what fires, as a start does, what waited for a
// decision, and then ts. What meets a fault again pages without a domain. The pager knows what it was given before. The
// caller holds mu.
func (d *Domains) rebuild(ts []alert.Transition) (pass []alert.Transition) {
	all := slices.Concat(d.Engine.Firing(), d.state.held(), ts)
	slices.SortStableFunc(all, func(a, b alert.Transition) int { return cmp.Compare(domainOrder(a), domainOrder(b)) })
	d.state = newDomainState()
	for _, t := range all {
		one := []alert.Transition{t}
		d.Pager.faults.guard("find the domain of one alert", func() { one = d.feed(one) })
		pass = append(pass, one...)
	}
	return pass
}

// domainOrder is where a transition belongs among those that come at one time.
func domainOrder(t alert.Transition) int {
	switch {
	case !alert.IsDomainRule(t.Rule):
		return 1
	case t.State.Active():
		return 0
	}
	return 2
}

// index brings the list of boards up to date, once Run runs.
func (d *Domains) index(now time.Time) {
	if d.running && now.Sub(d.indexed) > fleetAge {
		d.fleet, d.indexed = indexFleet(d.Fleet()), now
	}
}

func (d *Domains) ring() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run decides until ctx ends.
func (d *Domains) Run(ctx context.Context) error {
	d.mu.Lock()
	d.running = true
	d.mu.Unlock()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.wake:
		case <-timer.C:
		}
		at, ok := time.Now().Add(decideAgain), true
		d.Pager.faults.guard("decide about domains", func() { at, ok = d.decide(time.Now()) })
		if ok {
			timer.Reset(max(time.Until(at), time.Millisecond))
		}
	}
}

// decide decides what is due and returns when the next decision is.
func (d *Domains) decide(now time.Time) (time.Time, bool) {
	fx, at, ok := d.due(now)
	for _, t := range fx.commit {
		d.Engine.Apply(t)
		d.Log.Info("domain", "state", t.State, "was", t.From, "domain", t.Series, "alert", t.Labels[alert.NameLabel], "boards", len(t.Boards))
	}
	if len(fx.commit) > 0 {
		if err := d.Commit(fx.commit); err != nil {
			d.Log.Error("journal the alert of a domain; it pages without", "err", err)
		}
	}
	return at, ok
}

// due hands on what need not wait any longer, and returns what is to be committed.
func (d *Domains) due(now time.Time) (fx domainEffects, at time.Time, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	decided := d.Pager.faults.guard("explain alerts by a domain", func() {
		d.index(now)
		d.state.decide(&fx, now, d.fleet, d.Pager.silenced)
		at, ok = d.state.next(now)
	})
	if !decided {
		fx, at, ok = domainEffects{pass: d.rebuild(nil)}, now.Add(decideAgain), true
		d.state.handOnAll(&fx) // rather than wait for the same fault again
	}
	d.Pager.Deliver(fx.pass)
	return fx, at, ok
}

// Settle returns when all that was delivered before is safe in the pager's database, what waits for a decision included.
// The caller calls it before it truncates its journal.
func (d *Domains) Settle() error {
	d.mu.Lock()
	held := d.state.held()
	d.mu.Unlock()
	return d.Pager.Barrier(held...)
}
