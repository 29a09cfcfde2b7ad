package rules

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

// Replay runs one rule over stored readings, with the state machine that decides real readings. It is not safe for
// concurrent use.
type Replay struct {
	store   RangeQuerier
	rule    *Rule
	step    time.Duration
	engine  *Engine
	tracked map[string]*replayed // by the key of the series
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
	h := &Replay{store: store, rule: rule, step: replayStep, engine: NewEngine(nil), tracked: map[string]*replayed{}}
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

// Over looks at the rule at begin and after each further step until end, and calls decided after each look with the
// transitions in order, often none. The next call begins one step after the last look. Memory is bounded by the two answers
// that it asks for; where the store refuses one, nothing was decided, and a shorter time may be asked for.
func (h *Replay) Over(ctx context.Context, begin, end time.Time, decided func(at time.Time, ts []alert.Transition)) error {
	if err := h.query(ctx, begin, end); err != nil {
		return err
	}
	for at := begin; !at.After(end); at = at.Add(h.step) {
		decided(at, h.decide(at.UnixMilli()))
	}
	for key, s := range h.tracked {
		if s.alert.last.State == alert.Inactive {
			delete(h.tracked, key)
		}
	}
	return nil
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

// decide decides at one time.
func (h *Replay) decide(ms int64) (ts []alert.Transition) {
	for _, s := range h.tracked {
		if v, hit := s.hits.take(ms); hit {
			ts = h.engine.step(ts, h.rule, s.alert, s.subject, true, ms, v)
			continue
		}
		if v, present := s.present.take(ms); s.alert.last.State != alert.Inactive && (present || h.rule.presence == "") {
			ts = h.engine.step(ts, h.rule, s.alert, s.subject, false, ms, v)
		}
	}
	slices.SortFunc(ts, alert.Compare)
	return ts
}

// MarkStale forgets the last value of a series that is not there any more: rules over several series go on without it, as
// they do by themselves where nothing came for 5 min. It is for replays of readings, such as those of package ruletest.
func (e *Engine) MarkStale(s *Series) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.at = 0
}

// FiringNow is Firing with the value for which each condition held last, and with annotations that say so: as a
// receiver would be notified now.
func (e *Engine) FiringNow() []alert.Transition { return e.now(e.Firing()) }
