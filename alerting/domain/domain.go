package domain

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"bramble/alerting/alert"
)

const (
	// fleetAge is how old the list of boards may be when domains are decided.
	fleetAge = time.Second
	// decideAgain is the pause after a decision that met a fault.
	decideAgain = time.Second
)

// Options configure a Decider. All but Log are needed.
type Options struct {
	// Apply gives the engine the alerts of domains, so that its checkpoint and Firing have them; Firing are the engine's
	// alerts that fire, with those of domains.
	Apply  func(alert.Transition)
	Firing func() []alert.Transition
	// Fleet returns where every board of the registry stands. It is first called by Run.
	Fleet func() map[string]alert.Place
	// Commit journals transitions and then calls Deliver with them.
	Commit func([]alert.Transition) error
	Pager  Pager
	Log    *slog.Logger
}

// Pager is the part of the pager that a Decider needs.
type Pager interface {
	// Deliver and Resume take transitions that are journalled, see Decider.
	Deliver(ts []alert.Transition)
	Resume(firing, held []alert.Transition)
	// Held returns, once, the transitions that an earlier Decider held back at its last Barrier, which writes them down.
	Held() []alert.Transition
	Barrier(held ...alert.Transition) error
	// Silenced reports whether somebody works where an alert is.
	Silenced(t *alert.Transition) bool
	// Guard calls f and reports whether it came to its end: a panic in it is counted and logged.
	Guard(where string, f func()) (ended bool)
}

// Decider stands between the journal and the pager and makes one failure one page: where a switch, a rack, an NFS
// server or a site explains the alerts of boards, its own alert pages and theirs are inhibited. An alert of a board
// that shares something with others waits up to half a second for that. All methods are safe for concurrent use.
type Decider struct {
	Options
	wake chan struct{}

	mu      sync.Mutex // held while transitions go to the pager, which keeps their order and never blocks
	state   *state
	running bool        // Run runs
	fleet   *fleetIndex // nil before
	indexed time.Time
}

// New returns a Decider that knows of nothing but the alerts that an earlier one held back.
func New(o Options) *Decider {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	d := &Decider{Options: o, wake: make(chan struct{}, 1), state: newState()}
	d.Deliver(o.Pager.Held())
	return d
}

// Deliver takes transitions that are journalled, those of a replay included. It never blocks for long.
func (d *Decider) Deliver(ts []alert.Transition) {
	if len(ts) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Pager.Deliver(d.take(ts))
	d.signal()
}

// Resume takes all alerts that fire, once after a start: Engine.Firing. Call it after Deliver was given the journal,
// and before Run.
func (d *Decider) Resume(firing []alert.Transition) {
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
// moment in between. It returns those to be passed on. The caller holds mu.
func (d *Decider) take(ts []alert.Transition) (pass []alert.Transition) {
	ordered := slices.Clone(ts)
	slices.SortStableFunc(ordered, func(a, b alert.Transition) int { return cmp.Compare(Order(a), Order(b)) })
	if !d.Pager.Guard("find the domain of an alert", func() { pass = d.feed(ordered) }) {
		pass = d.rebuild(ordered)
	}
	return pass
}

func (d *Decider) feed(ts []alert.Transition) []alert.Transition {
	var fx effects
	now := time.Now()
	d.index(now)
	for _, t := range ts {
		t.Journalled = now.UnixMilli()
		d.state.take(&fx, t, now, d.fleet)
	}
	return fx.pass
}

// rebuild makes the state anew after a fault that left it half changed: from the alerts that fire, as a start does, those that
// waited for a decision, and then ts. An alert that meets a fault again pages without a domain. The pager knows the alerts that
// it was given before. The caller holds mu.
func (d *Decider) rebuild(ts []alert.Transition) (pass []alert.Transition) {
	all := slices.Concat(d.Firing(), d.state.held(), ts)
	slices.SortStableFunc(all, func(a, b alert.Transition) int { return cmp.Compare(Order(a), Order(b)) })
	d.state = newState()
	for _, t := range all {
		one := []alert.Transition{t}
		d.Pager.Guard("find the domain of one alert", func() { one = d.feed(one) })
		pass = append(pass, one...)
	}
	return pass
}

// Order is where a transition belongs among those that come at one time.
func Order(t alert.Transition) int {
	switch {
	case !alert.IsDomainRule(t.Rule):
		return 1
	case t.State.Active():
		return 0
	}
	return 2
}

// index brings the list of boards up to date, once Run runs.
func (d *Decider) index(now time.Time) {
	if d.running && now.Sub(d.indexed) > fleetAge {
		d.fleet, d.indexed = indexFleet(d.Fleet()), now
	}
}

func (d *Decider) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run decides until ctx ends.
func (d *Decider) Run(ctx context.Context) error {
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
		d.Pager.Guard("decide about domains", func() { at, ok = d.decide(time.Now()) })
		if ok {
			timer.Reset(max(time.Until(at), time.Millisecond))
		}
	}
}

// decide makes the decisions that are due and returns when the next decision is.
func (d *Decider) decide(now time.Time) (time.Time, bool) {
	fx, at, ok := d.due(now)
	for _, t := range fx.commit {
		d.Apply(t)
		d.Log.Info("domain", "state", t.State, "was", t.From, "domain", t.Series, "alert", t.Labels[alert.NameLabel], "boards", len(t.Boards))
	}
	if len(fx.commit) > 0 {
		if err := d.Commit(fx.commit); err != nil {
			d.Log.Error("journal the alert of a domain; it pages without", "err", err)
		}
	}
	return at, ok
}

// due passes on alerts that need not wait any longer, and returns the transitions to be committed.
func (d *Decider) due(now time.Time) (fx effects, at time.Time, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	decided := d.Pager.Guard("explain alerts by a domain", func() {
		d.index(now)
		d.state.decide(&fx, now, d.fleet, d.Pager.Silenced)
		at, ok = d.state.next(now)
	})
	if !decided {
		fx, at, ok = effects{pass: d.rebuild(nil)}, now.Add(decideAgain), true
		d.state.passOnAll(&fx) // rather than wait for the same fault again
	}
	d.Pager.Deliver(fx.pass)
	return fx, at, ok
}

// Settle returns when all that was delivered before is safe in the pager's database, alerts that wait for a decision included.
// The caller calls it before it truncates its journal.
func (d *Decider) Settle() error {
	d.mu.Lock()
	held := d.state.held()
	d.mu.Unlock()
	return d.Pager.Barrier(held...)
}
