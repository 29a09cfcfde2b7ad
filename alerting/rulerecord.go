package alerting

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/common/model"

	"bramble/storage/series"
)

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
