package rules

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/storage/series"
)

// Querier answers instant queries; the store is one.
type Querier interface {
	Query(ctx context.Context, expr string, at time.Time) ([]series.Result, error)
}

// evaluation is when a group was last evaluated, and how long that took.
type evaluation struct {
	at   int64 // Unix milliseconds
	took time.Duration
}

// ruleHealth is how a rule's last evaluation went.
type ruleHealth struct {
	err      error
	at       time.Time
	took     time.Duration
	failures int // in a row
}

func (g *Group) key() string { return g.File + ";" + g.Name }

// Evaluate runs the rules that one reading cannot decide, in the groups whose interval has come round at now, through
// q. Call it every second. A rule whose query fails keeps its states; the error names all of them. It holds no lock
// while a query runs.
func (e *Engine) Evaluate(ctx context.Context, q Querier, now time.Time) ([]alert.Transition, error) {
	groups, gen := e.due(now)
	var (
		all  = answersFor(groups, q)
		out  []alert.Transition
		errs []error
	)
	for _, g := range groups {
		start := time.Now()
		for _, r := range g.Rules {
			if r.OnArrival() {
				continue
			}
			ts, err := e.evaluateRule(ctx, all, r, now, gen)
			out = append(out, ts...)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s:%d: evaluate rule %q: %w", r.File, r.Line, r.Name, err))
			}
		}
		e.noteEvaluated(g, now, time.Since(start))
	}
	return out, errors.Join(errs...)
}

// due lists the groups with something to evaluate whose interval has come round.
func (e *Engine) due(now time.Time) ([]*Group, *Rules) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []*Group
	for _, g := range e.rules.Groups {
		if !slices.ContainsFunc(g.Rules, func(r *Rule) bool { return !r.OnArrival() }) {
			continue
		}
		step := max(g.Interval.Milliseconds(), 1)
		// Another step, not a later one: a clock that was set back must not end the evaluation.
		if ev := e.evaluated[g.key()]; ev == nil || now.UnixMilli()/step != ev.at/step {
			out = append(out, g)
		}
	}
	return out, e.rules
}

func (e *Engine) noteEvaluated(g *Group, now time.Time, took time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.evaluated[g.key()] = &evaluation{now.UnixMilli(), took}
}

func (e *Engine) evaluateRule(ctx context.Context, all *answers, r *Rule, now time.Time, rules *Rules) (ts []alert.Transition, err error) {
	start := time.Now()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		h := ruleHealth{err: err, at: now, took: time.Since(start)}
		if err != nil {
			h.failures = e.health[r.ID].failures + 1
		}
		e.health[r.ID] = h
	}()
	if r.Record != "" {
		defer all.recorded()
		return nil, e.record(ctx, all, r, now)
	}
	hits, err := r.hits(ctx, all, now)
	if err != nil {
		return nil, err
	}
	if r.group.Limit > 0 && len(hits) > r.group.Limit {
		return nil, fmt.Errorf("result has %d series, the group's limit is %d", len(hits), r.group.Limit)
	}
	ts, missing := e.decideHits(r, hits, now, rules)
	if len(missing) == 0 {
		return ts, nil
	}
	var present []series.Result
	if r.presence != "" {
		if present, err = all.ask(ctx, r.presence, now, r.group.Offset); err != nil {
			return ts, err
		}
	}
	return append(ts, e.decideMissing(r, missing, present, now, rules)...), nil
}

// hits returns the series for which the rule's condition holds.
func (r *Rule) hits(ctx context.Context, all *answers, now time.Time) ([]series.Result, error) {
	if r.guard.text != "" {
		found, err := all.ask(ctx, r.guard.text, now, r.group.Offset)
		if err != nil || len(r.guard.own(found)) == 0 {
			return nil, err
		}
	}
	found, err := all.ask(ctx, r.asks.text, now, r.group.Offset)
	return r.asks.own(found), err
}

// decideHits steps the alerts of the series in a result and returns the active ones that are not in it.
func (e *Engine) decideHits(r *Rule, hits []series.Result, now time.Time, rules *Rules) (ts []alert.Transition, missing []alertKey) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.rules != rules {
		return nil, nil
	}
	found := make(map[string]bool, len(hits))
	for _, hit := range hits {
		s := e.subject(hit.Labels)
		if len(hit.Values) == 0 || found[s.key] {
			continue
		}
		found[s.key] = true
		ts = e.step(ts, r, e.alertOf(r.ID, s.key), s, true, now.UnixMilli(), hit.Values[len(hit.Values)-1])
	}
	for key := range e.active[r.ID] {
		if !found[key] {
			missing = append(missing, alertKey{r.ID, key})
		}
	}
	return ts, missing
}

// decideMissing ends the alerts whose series is still there without its condition, and leaves those whose series has
// vanished. Where the rule has no presence, all of them end.
func (e *Engine) decideMissing(r *Rule, missing []alertKey, present []series.Result, now time.Time, rules *Rules) (ts []alert.Transition) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.rules != rules {
		return nil
	}
	values := make(map[string]float64, len(present))
	for _, p := range present {
		if len(p.Values) > 0 {
			values[e.subject(p.Labels).key] = p.Values[len(p.Values)-1]
		}
	}
	slices.SortFunc(missing, func(a, b alertKey) int { return strings.Compare(a.series, b.series) })
	for _, k := range missing {
		v, ok := values[k.series]
		a := e.alerts[k]
		if a == nil || r.presence != "" && !ok {
			continue
		}
		ts = e.step(ts, r, a, subject{key: k.series}, false, now.UnixMilli(), v)
	}
	return ts
}

// subject names the series of a result. The registry's labels do not identify a board's series: relabelling a board
// must not leave an alert behind that nothing resolves.
func (e *Engine) subject(labels []series.Label) subject {
	sorted := series.Sorted(labels)
	key := sorted
	if series.Get(sorted, alert.BoardLabel) != "" {
		key = slices.DeleteFunc(slices.Clone(sorted), func(l series.Label) bool { return e.registryNames[l.Name] })
	}
	return subject{key: series.Key(key, series.NameLabel), labels: sorted}
}

// Recorder takes the results of recording rules; the store is one.
type Recorder interface {
	Record(samples []series.Sample) error
}

// recorded are the labels of the series that a recording rule had at its last evaluation, by their canonical form.
type recorded map[string][]series.Label

// RecordTo sets where the results of recording rules go. Without it they cannot be evaluated.
func (e *Engine) RecordTo(to Recorder) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.recorder = to
}

// buildRecord checks a recording rule.
func (r *ruleYAML) buildRecord(file string, rule *Rule) error {
	where := fmt.Sprintf("%s:%d: recording rule %q", file, r.Record.Line, r.Record.Value)
	var errs []error
	if r.Alert.Value != "" {
		errs = append(errs, fmt.Errorf("%s: is an alert as well: keep one of `record` and `alert`", where))
	}
	if !model.LegacyValidation.IsValidMetricName(r.Record.Value) {
		errs = append(errs, fmt.Errorf("%s: not a valid name for a metric", where))
	}
	if r.For != "" || r.KeepFiringFor != "" || len(r.Annotations) > 0 {
		errs = append(errs, fmt.Errorf("%s: `for`, `keep_firing_for` and `annotations` are for alerts", where))
	}
	for name := range rule.Labels {
		if !model.UTF8Validation.IsValidLabelName(name) || name == series.NameLabel {
			errs = append(errs, fmt.Errorf("%s: label %q: not a valid name", where, name))
		}
	}
	rule.Record, rule.Line = r.Record.Value, r.Record.Line
	rule.Name = rule.Record
	errs = append(errs, rule.parseExpr(where, r.Expr.Line))
	rule.condition = nil
	return errors.Join(errs...)
}

// leaveRecordedToTheStore takes rules that ask for a recorded series from those that are decided on arrival: no reading
// brings it.
func (r *Rules) leaveRecordedToTheStore() {
	names := map[string]bool{}
	for rule := range r.All() {
		if rule.Record != "" {
			names[rule.Record] = true
		}
	}
	if len(names) == 0 {
		return
	}
	for rule := range r.All() {
		if rule.condition == nil {
			continue
		}
		for _, l := range rule.condition.leaves {
			if names[l.name] {
				rule.condition = nil
				break
			}
		}
	}
}

// record evaluates a recording rule and hands its result to the recorder, with a marker for each series that it had
// before and has no more.
func (e *Engine) record(ctx context.Context, q Querier, r *Rule, now time.Time) error {
	at := now.Add(-r.group.Offset)
	found, err := q.Query(ctx, r.Expr, at)
	if err != nil {
		return err
	}
	if r.group.Limit > 0 && len(found) > r.group.Limit {
		return fmt.Errorf("result has %d series, the group's limit is %d", len(found), r.group.Limit)
	}
	samples, is := make([]series.Sample, 0, len(found)), make(recorded, len(found))
	for _, f := range found {
		if len(f.Values) == 0 {
			continue
		}
		labels := r.recordLabels(f.Labels)
		key := series.Key(labels, "")
		if is[key] != nil {
			return fmt.Errorf("result has two series with the labels {%s}", series.Key(labels, series.NameLabel))
		}
		is[key] = labels
		samples = append(samples, series.Sample{Labels: labels, At: at.UnixMilli(), Value: f.Values[len(f.Values)-1]})
	}
	e.mu.Lock()
	to, was := e.recorder, e.recorded[r.ID]
	e.recorded[r.ID] = is
	e.mu.Unlock()
	for key, labels := range was {
		if is[key] == nil {
			samples = append(samples, series.Sample{Labels: labels, At: at.UnixMilli(), Value: series.Stale})
		}
	}
	if to == nil {
		return errors.New("there is no store to record to")
	}
	return to.Record(samples)
}

// recordLabels are a result's labels under the rule's name, its own labels winning.
func (r *Rule) recordLabels(labels []series.Label) []series.Label {
	m := make(map[string]string, len(labels)+len(r.Labels)+1)
	for _, l := range labels {
		m[l.Name] = l.Value
	}
	for name, value := range r.Labels {
		m[name] = value
	}
	m[series.NameLabel] = r.Record
	return series.Sorted(series.List(m))
}

// failingAfter is how many evaluations in a row must fail before a rule counts as failing: one may be a store that is
// busy with a backup.
const failingAfter = 3

// FailingRules returns how many rules could not be evaluated three times in a row. A rule that is decided on arrival
// cannot fail.
func (e *Engine) FailingRules() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for id, h := range e.health {
		if h.failures >= failingAfter && e.byID[id] != nil {
			n++
		}
	}
	return n
}

// Register registers the engine's metrics.
func (e *Engine) Register(reg prometheus.Registerer) error {
	return reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "bramble_rules_failing", Help: "Rules whose last three evaluations from the store failed.",
	}, func() float64 { return float64(e.FailingRules()) }))
}
