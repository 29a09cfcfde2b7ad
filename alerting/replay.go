package alerting

import (
	"context"
	"maps"
	"slices"
	"time"

	"bramble/alerting/alert"
	"bramble/storage/series"
)

// replayStep is how often a rule that readings decide is looked at: a board's interval far from every line.
const replayStep = 10 * time.Second

// RangeQuerier answers queries over a time; the store is one.
type RangeQuerier interface {
	QueryRange(ctx context.Context, expr string, start, end time.Time, step time.Duration) ([]series.Result, error)
}

// Replay runs one rule over what is stored, with the state machine and the domains that decide real readings.
// Alertmanager's grouping and silences are not applied. It is not safe for concurrent use.
type Replay struct {
	store   RangeQuerier
	rule    *Rule
	fleet   *fleetIndex
	step    time.Duration
	engine  *Engine
	tracked map[string]*replayed // by the key of the series
	domains *domainState
	inbox   *inbox // knows which domain stands for an alert
}

// Fate is what becomes of an alert that begins to fire.
type Fate int

// The zero Fate is Paged.
const (
	Paged     Fate = iota // somebody is paged
	Explained             // a domain's page stands for it
	Recorded              // it is recorded, and pages nobody
)

// Replayed is an alert that began to fire in a Replay.
type Replayed struct {
	alert.Transition
	Fate Fate
	// Domain is the title of the domain whose failure this is, "" for a board's own or the collector's.
	Domain string
}

// replayed is one series for which the rule's condition held.
type replayed struct {
	subject subject
	alert   *alertState
	hits    points
	present points
}

// points are those of one chunk, in time; next is the first that was not looked at.
type points struct {
	at     []int64
	values []float64
	next   int
}

// take reports whether there is a point at a time, and its value.
func (p *points) take(at int64) (float64, bool) {
	for p.next < len(p.at) && p.at[p.next] < at {
		p.next++
	}
	if p.next == len(p.at) || p.at[p.next] != at {
		return 0, false
	}
	return p.values[p.next], true
}

// NewReplay returns a Replay in which nothing has fired yet. The rule is one of alerts, and fleet says where boards stand
// now: the past is judged by it.
func NewReplay(store RangeQuerier, rule *Rule, fleet map[string]alert.Place) *Replay {
	h := &Replay{
		store: store, rule: rule, fleet: indexFleet(fleet), step: replayStep, engine: NewEngine(nil), tracked: map[string]*replayed{},
		domains: newDomainState(), inbox: newInbox(),
	}
	if !rule.OnArrival() {
		h.step = max(rule.group.Interval, time.Second)
	}
	for _, p := range fleet { // relabelling a board does not make another series of it
		for name := range p.Labels {
			h.engine.registryNames[name] = true
		}
	}
	return h
}

// Step is the time between two looks at the rule: 10 s where readings decide it, else its interval.
func (h *Replay) Step() time.Duration { return h.step }

// Over looks at the rule at begin and after each further step until end, and returns the alerts that began to fire. The
// next call begins one step after the last look. Memory is bounded by the two answers that it asks for; where the store
// refuses one, nothing was decided, and a shorter time may be asked for.
func (h *Replay) Over(ctx context.Context, begin, end time.Time) ([]Replayed, error) {
	if err := h.query(ctx, begin, end); err != nil {
		return nil, err
	}
	if len(h.tracked) == 0 && len(h.domains.open) == 0 {
		return nil, nil
	}
	var out []Replayed
	for at := begin; !at.After(end); at = at.Add(h.step) {
		out = h.decide(out, at)
	}
	for key, s := range h.tracked {
		if s.alert.last.State == alert.Inactive {
			delete(h.tracked, key)
		}
	}
	return out, nil
}

// query finds the series for which the condition holds within a chunk, and where these are at all.
func (h *Replay) query(ctx context.Context, begin, end time.Time) error {
	for _, s := range h.tracked {
		s.hits, s.present = points{}, points{}
	}
	offset := h.rule.group.Offset
	found, err := h.store.QueryRange(ctx, h.rule.Expr, begin.Add(-offset), end.Add(-offset), h.step)
	if err != nil {
		return err
	}
	for _, f := range found {
		s := h.engine.subject(f.Labels)
		t := h.tracked[s.key]
		if t == nil {
			t = &replayed{alert: &alertState{}}
			h.tracked[s.key] = t
		}
		t.subject = s
		t.hits.add(f, offset)
	}
	if h.rule.presence == "" || len(h.tracked) == 0 {
		return nil
	}
	there, err := h.store.QueryRange(ctx, h.rule.presence, begin.Add(-offset), end.Add(-offset), h.step)
	if err != nil {
		return err
	}
	for _, f := range there {
		if t := h.tracked[h.engine.subject(f.Labels).key]; t != nil {
			t.present.add(f, offset)
		}
	}
	return nil
}

// add puts an answer's points behind those that are there: a series that was relabelled within the chunk is two.
func (p *points) add(r series.Result, offset time.Duration) {
	sorted := len(p.at) == 0 || len(r.At) == 0 || p.at[len(p.at)-1] < r.At[0]
	for i, at := range r.At {
		p.at, p.values = append(p.at, at+offset.Milliseconds()), append(p.values, r.Values[i])
	}
	if sorted {
		return
	}
	values := make(map[int64]float64, len(p.at))
	for i, at := range p.at {
		values[at] = p.values[i]
	}
	p.at = slices.Sorted(maps.Keys(values))
	p.values = p.values[:len(p.at)]
	for i, at := range p.at {
		p.values[i] = values[at]
	}
}

// decide decides at one time, lets domains settle, and appends what would have gone to the pager as firing.
func (h *Replay) decide(out []Replayed, at time.Time) []Replayed {
	ms := at.UnixMilli()
	var ts []alert.Transition
	for _, s := range h.tracked {
		if v, hit := s.hits.take(ms); hit {
			ts = h.engine.step(ts, h.rule, s.alert, s.subject, true, ms, v)
			continue
		}
		if v, present := s.present.take(ms); s.alert.last.State != alert.Inactive && (present || h.rule.presence == "") {
			ts = h.engine.step(ts, h.rule, s.alert, s.subject, false, ms, v)
		}
	}
	if len(ts) == 0 && len(h.domains.open[h.rule.ID]) == 0 {
		return out
	}
	slices.SortFunc(ts, alert.Compare)
	var fx domainEffects
	for _, t := range ts {
		h.domains.take(&fx, t, at, h.fleet)
	}
	h.domains.decide(&fx, at.Add(settleFor), h.fleet, func(*alert.Transition) bool { return false })
	for _, t := range fx.commit {
		h.domains.take(&fx, t, at, h.fleet)
	}
	for _, t := range fx.pass {
		h.inbox.noteDomain(t)
		if t.State == alert.Firing && !t.From.Active() {
			out = append(out, h.judge(t))
		}
	}
	return out
}

// judge says what becomes of an alert that begins to fire.
func (h *Replay) judge(t alert.Transition) Replayed {
	out := Replayed{Transition: t}
	switch {
	case h.inbox.inhibiting(t) != nil:
		out.Fate = Explained
	case alert.InShadow(h.rule.Labels), alert.PagesNobody(t.Labels):
		out.Fate = Recorded
	}
	if d, ok := alert.DomainOf(&t); ok {
		out.Domain = d.Title()
	}
	return out
}
