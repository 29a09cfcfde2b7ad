package rules

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"bramble/alerting/alert"
	"bramble/storage/series"
)

// Engine turns readings into transitions of alerts. It holds one state for every rule and series that ever was active,
// and per origin the time of the last readings that it saw. All methods are safe for concurrent use.
//
// The caller journals every transition before it acts on it. After a crash it calls Restore with the last checkpoint,
// then Seen for every journalled report and Apply for every journalled transition, in their order; the engine then
// goes on as if it had never stopped.
type Engine struct {
	mu     sync.Mutex
	rules  *Rules
	gen    uint64 // of the rules and the registry's labels; series resolved for an older one are resolved again
	index  map[string][]leafOf
	byID   map[string]*Rule
	series map[string]*Series
	boards map[string][]*Series
	marks  watermarks
	alerts map[alertKey]*alertState
	active map[string]map[string]*alertState // those of alerts that are not inactive, by rule and series
	groups map[watchKey]*boardRule
	dirty  dirtyRules
	stack  elements
	// registryNames are the labels that came from the registry so far: they do not identify a board's series.
	registryNames labelNames
	evaluated     map[string]*evaluation // by group file and name
	health        map[string]ruleHealth  // by rule ID
	external      external
	recorder      Recorder
	recorded      map[string]recorded // by rule ID
	tenants       tenants
}

// leafOf is one place where a metric decides.
type leafOf struct {
	rule *Rule
	leaf *leaf
}

// Reading is one value of one series; its time goes with the call.
type Reading struct {
	Series *Series
	Value  float64
}

// NewEngine returns an engine for rules; nil means none.
func NewEngine(rules *Rules) *Engine {
	e := &Engine{
		series: map[string]*Series{}, boards: map[string][]*Series{}, marks: watermarks{}, alerts: map[alertKey]*alertState{}, active: map[string]map[string]*alertState{},
		registryNames: labelNames{}, evaluated: map[string]*evaluation{}, health: map[string]ruleHealth{}, recorded: map[string]recorded{},
	}
	e.use(rules)
	return e
}

// SetExternal sets $externalLabels and $externalURL of templates, for alerts that begin later.
func (e *Engine) SetExternal(labels map[string]string, url string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.external = external{labels, url}
}

// Expression returns the expression of a rule in force by its ID, or by that of the alert of a domain that it led to; "" where
// there is no such rule.
func (e *Engine) Expression(rule string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.byID[alert.BaseRule(rule)]; r != nil {
		return r.Expr
	}
	return ""
}

// use puts rules in force.
func (e *Engine) use(rules *Rules) {
	if rules == nil {
		rules = &Rules{}
	}
	e.rules, e.index, e.byID = rules, map[string][]leafOf{}, map[string]*Rule{}
	for rule := range rules.All() {
		e.byID[rule.ID] = rule
		if rule.condition == nil {
			continue
		}
		for _, l := range rule.condition.leaves {
			e.index[l.name] = append(e.index[l.name], leafOf{rule, l})
		}
	}
	for id := range e.recorded {
		if e.byID[id] == nil {
			delete(e.recorded, id)
		}
	}
	e.resolveAgain()
}

// resolveAgain makes every series look up its rules again when it is next observed.
func (e *Engine) resolveAgain() {
	e.gen++
	e.groups = map[watchKey]*boardRule{}
	e.dirty = e.dirty[:0]
}

// Series returns the handle of the series with these own labels (metric name, board, source and the like). The
// registry's labels (rack, customer) are matched and shown but do not identify it; calling again with others replaces
// them. The handle stays valid until Forget.
func (e *Engine) Series(own, registry []series.Label) *Series {
	e.mu.Lock()
	defer e.mu.Unlock()
	id := ownKey(own)
	s := e.series[id]
	if s == nil {
		return e.addSeries(own, registry)
	}
	if reg := series.Sorted(registry); !slices.Equal(reg, s.registry) {
		e.tenants.leave(s)
		s.registry, s.labels = reg, series.Merge(s.own, reg)
		e.tenants.join(s)
		e.registryNames.note(reg)
		e.resolveAgain()
	}
	return s
}

func (e *Engine) addSeries(own, registry []series.Label) *Series {
	s := newSeries(own, registry)
	e.series[s.id] = s
	e.boards[s.board] = append(e.boards[s.board], s)
	e.tenants.join(s)
	e.registryNames.note(s.registry)
	return s
}

// labelNames is a set of names of labels.
type labelNames map[string]bool

func (n labelNames) note(labels []series.Label) {
	for _, l := range labels {
		n[l.Name] = true
	}
}

// Observe decides on readings taken at one time (Unix milliseconds) by one origin, commonly a board. Readings at or
// before the origin's last ones are ignored. It allocates only where a state changes.
func (e *Engine) Observe(origin string, at int64, rs []Reading) []alert.Transition {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.marks.advance(origin, at) {
		return nil
	}
	var out []alert.Transition
	for i := range rs {
		s := rs[i].Series
		if s.gen != e.gen {
			e.resolve(s)
		}
		s.value, s.at = rs[i].Value, at
		for j := range s.tests {
			t := &s.tests[j]
			hit := t.op.holds(rs[i].Value, t.limit) || t.release != nil && t.heldBy(rs[i].Value)
			if hit && t.alert != nil {
				t.alert.holds(rs[i].Value, s.labels)
			}
			if t.quiet(hit) {
				continue
			}
			out = e.decide(out, t, s, hit, at)
		}
		for _, w := range s.watched {
			if !w.quiet(s.value) {
				e.dirty.mark(w.rule)
			}
		}
	}
	return e.decideWatched(out, at)
}

// quiet reports whether a reading changes nothing, without looking at times.
func (t *test) quiet(hit bool) bool {
	if t.alert == nil {
		return !hit
	}
	switch t.alert.last.State {
	case alert.Inactive:
		return !hit
	case alert.Firing:
		return hit
	}
	return false
}

func (e *Engine) decide(out []alert.Transition, t *test, s *Series, hit bool, at int64) []alert.Transition {
	if t.alert == nil {
		t.alert = e.alertOf(t.rule.ID, s.key)
	}
	return e.step(out, t.rule, t.alert, subject{key: s.key, labels: s.labels, notes: s.notes}, hit, at, s.value)
}

// Seen raises an origin's watermark as Observe would, without deciding: the decisions of then come from Apply. The
// readings, where the journal has them, become the last values that rules over several series look at.
func (e *Engine) Seen(origin string, at int64, rs ...Reading) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.marks.advance(origin, at) {
		return
	}
	for _, r := range rs {
		r.Series.value, r.Series.at = r.Value, at
	}
}

// watermarks are the times of the last readings, by origin, in Unix milliseconds.
type watermarks map[string]*int64

// advance raises the watermark of an origin and reports whether at lies after it.
func (m watermarks) advance(origin string, at int64) bool {
	mark := m[origin]
	if mark == nil {
		mark = new(int64)
		m[origin] = mark
	} else if at <= *mark {
		return false
	}
	*mark = at
	return true
}

// Apply puts the state of a journalled transition in force. It is idempotent, and ignores transitions older than the
// state that it has.
func (e *Engine) Apply(t alert.Transition) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.apply(t)
}

func (e *Engine) apply(t alert.Transition) {
	a := e.alertOf(t.Rule, t.Series)
	if t.At < a.last.At {
		return
	}
	e.enter(a, t)
	if !alert.IsDomainRule(t.Rule) { // no reading decides those
		e.resolveAgain()
	}
}

// enter makes t the last transition of its alert.
func (e *Engine) enter(a *alertState, t alert.Transition) {
	a.last = t
	if t.State == alert.Inactive {
		delete(e.active[t.Rule], t.Series)
		return
	}
	if e.active[t.Rule] == nil {
		e.active[t.Rule] = map[string]*alertState{}
	}
	e.active[t.Rule][t.Series] = a
}

// alertOf returns the state of a rule for a series, made where there is none.
func (e *Engine) alertOf(rule, key string) *alertState {
	k := alertKey{rule, key}
	a := e.alerts[k]
	if a == nil {
		a = &alertState{}
		e.alerts[k] = a
	}
	return a
}

// Firing returns the last transition of every alert that fires now, the oldest first, but for customers' thresholds.
func (e *Engine) Firing() []alert.Transition {
	return ofOperator(e.states(alert.State.Active))
}

// Last returns the last transition of every alert of a board, "" for those of all and of none, that ever fired or waited to.
func (e *Engine) Last(board string) []alert.Transition {
	e.mu.Lock()
	defer e.mu.Unlock()
	pair := series.Pair(alert.BoardLabel, board)
	var out []alert.Transition
	for k, a := range e.alerts {
		if a.last.At != 0 && (board == "" || series.HasPair(k.series, pair)) {
			out = append(out, a.last)
		}
	}
	slices.SortFunc(out, alert.Compare)
	return out
}

// states returns the last transition of every alert whose state is wanted, ordered by time and key.
func (e *Engine) states(wanted func(alert.State) bool) []alert.Transition {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.statesLocked(wanted)
}

// now returns alerts with the value for which their condition held last, and with annotations that say so.
func (e *Engine) now(ts []alert.Transition) []alert.Transition {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.nowLocked(ts)
}

func (e *Engine) nowLocked(ts []alert.Transition) []alert.Transition {
	for i := range ts {
		a, r := e.alerts[alertKey{ts[i].Rule, ts[i].Series}], e.byID[ts[i].Rule]
		if a == nil || r == nil || a.labels == nil {
			continue
		}
		ts[i].Value = alert.Value(a.value)
		_, annotations := r.render(a.labels, a.value, e.external)
		ts[i].Annotations = withNotes(annotations, ts[i].Annotations)
	}
	return ts
}

// Condition is how the condition of an alert stands at the newest reading. Times are Unix milliseconds.
type Condition struct {
	// Over is since when it does not hold. It is 0 where it holds, and where nobody can know: the board is silent, the rule's
	// query fails, or the alert is not the engine's.
	Over int64
	// Metric, Value and At are the newest reading of the series that decides it; of a rule that asks the store, its newest
	// result and no metric. At is 0 where there is none.
	Metric string
	Value  float64
	At     int64
}

// Condition returns how the condition of an alert that fires stands; that of a domain is over where it is on all boards.
func (e *Engine) Condition(t alert.Transition) Condition {
	e.mu.Lock()
	defer e.mu.Unlock()
	if d, ok := alert.DomainOf(&t); ok {
		return e.domainCondition(alert.BaseRule(t.Rule), d)
	}
	return e.condition(alertKey{t.Rule, t.Series})
}

func (e *Engine) condition(k alertKey) (c Condition) {
	a, r := e.alerts[k], e.byID[k.rule]
	if a == nil || r == nil {
		return c
	}
	board, known := a.last.Labels[alert.BoardLabel], e.health[k.rule].err == nil
	for _, s := range e.boards[board] {
		switch {
		case s.name == alert.UpMetric && s.at != 0 && s.value == 0:
			known = false
		case s.key == k.series && s.at != 0 && r.decidedBy(s):
			c.Metric, c.Value, c.At = s.name, s.value, s.at
			known = known && time.Now().UnixMilli()-s.at <= staleAfter
		}
	}
	if r.condition == nil && known && a.last.State == alert.Firing && a.labels != nil {
		c.Value, c.At = a.value, e.health[k.rule].at.UnixMilli()
	}
	if known && a.last.State == alert.Cooling {
		c.Over = a.last.At
	}
	return c
}

// decidedBy reports whether readings of a series decide the rule on arrival.
func (r *Rule) decidedBy(s *Series) bool {
	return r.condition != nil && slices.ContainsFunc(r.condition.leaves, func(l *leaf) bool { return l.name == s.name && l.matches(s.labels) })
}

func (e *Engine) domainCondition(rule string, d alert.Domain) (c Condition) {
	for key, a := range e.active[rule] {
		if !a.last.State.Active() || !d.Holds(a.last.Labels) {
			continue
		}
		one := e.condition(alertKey{rule, key})
		if one.Over == 0 {
			return Condition{}
		}
		c.Over = max(c.Over, one.Over)
	}
	return c
}

func (e *Engine) statesLocked(wanted func(alert.State) bool) []alert.Transition {
	var out []alert.Transition
	for _, a := range e.alerts {
		if wanted(a.last.State) {
			out = append(out, a.last)
		}
	}
	slices.SortFunc(out, alert.Compare)
	return out
}

// SetRules puts new rules in force. States carry over by rule ID; alerts of rules that are gone end, which the
// returned transitions say.
func (e *Engine) SetRules(rules *Rules) []alert.Transition {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.use(rules)
	return e.end(func(k alertKey) bool { return e.byID[alert.BaseRule(k.rule)] == nil && e.tenants.byID[k.rule] == nil })
}

// Forget ends every alert of a board that is no longer watched, and drops its series; handles of them must not be
// used again.
func (e *Engine) Forget(board string) []alert.Transition {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.boards[board] {
		e.tenants.leave(s)
		delete(e.series, s.id)
	}
	delete(e.boards, board)
	e.resolveAgain()
	pair := series.Pair(alert.BoardLabel, board)
	return e.end(func(k alertKey) bool { return series.HasPair(k.series, pair) })
}

// end resolves and drops the alerts that gone selects.
func (e *Engine) end(gone func(alertKey) bool) []alert.Transition {
	var out []alert.Transition
	now := time.Now().UnixMilli()
	for k, a := range e.alerts {
		if !gone(k) {
			continue
		}
		if last := a.last; last.State != alert.Inactive {
			t := last
			t.From, t.State, t.At, t.Received = last.State, alert.Inactive, max(now, last.At+1), now
			out = append(out, t)
		}
		delete(e.alerts, k)
		delete(e.active[k.rule], k.series)
	}
	slices.SortFunc(out, alert.Compare)
	e.resolveAgain()
	return out
}

// Annotate sets annotations that alerts carry beside their rule's when they begin to fire on s, from the next reading
// on. They hold knowledge of the caller's beyond the value, such as why it calls a board silent. nil removes them.
func (e *Engine) Annotate(s *Series, notes map[string]string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.notes = maps.Clone(notes)
}

// boardMetrics begin the names of the series that boards have.
var boardMetrics = []string{"pi_", "pisensor_"}

// BoardAlerts returns the names of the rules in force that may fire on boards, in order: those whose expression has a
// board's series.
func (e *Engine) BoardAlerts() (names []string) {
	e.mu.Lock()
	rules := e.rules
	e.mu.Unlock()
	for r := range rules.All() {
		if slices.ContainsFunc(boardMetrics, func(p string) bool { return strings.Contains(r.Expr, p) }) {
			names = append(names, r.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Thresholds returns, ascending and without repetition, the numbers that the rules in force compare a metric with on
// arrival: a board close to one of them is worth watching closely.
func (e *Engine) Thresholds(metric string) []float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []float64
	for r := range e.rules.All() {
		if r.condition == nil {
			continue
		}
		for _, l := range r.condition.leaves {
			if l.name == metric && !math.IsNaN(l.limit) && !math.IsInf(l.limit, 0) {
				out = append(out, l.limit)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
