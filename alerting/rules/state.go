package rules

import (
	"slices"
	"strings"
	"time"

	"bramble/alerting/alert"
	"bramble/storage/series"
)

// subject is the series that an alert is about.
type subject struct {
	key    string
	labels []series.Label
	notes  map[string]string
}

// next is the state machine: the state after a reading at a time, given the last transition. Times are Unix
// milliseconds; `for` and keep_firing_for count in them, so that a replay decides the same.
func next(r *Rule, last *alert.Transition, hit bool, at int64) alert.State {
	switch {
	case last.State == alert.Inactive && hit && r.For == 0:
		return alert.Firing
	case last.State == alert.Inactive && hit:
		return alert.Pending
	case last.State == alert.Pending && !hit:
		return alert.Inactive
	case last.State == alert.Pending && at-last.Since >= r.For.Milliseconds():
		return alert.Firing
	case last.State == alert.Firing && !hit && r.KeepFiringFor > 0:
		return alert.Cooling
	case last.State == alert.Firing && !hit:
		return alert.Inactive
	case last.State == alert.Cooling && hit:
		return alert.Firing
	case last.State == alert.Cooling && at-last.At >= r.KeepFiringFor.Milliseconds():
		return alert.Inactive
	}
	return last.State
}

// step feeds one verdict to one alert and appends the transition that follows, if any.
func (e *Engine) step(out []alert.Transition, r *Rule, a *alertState, s subject, hit bool, at int64, value float64) []alert.Transition {
	if hit {
		a.holds(value, s.labels)
	}
	last := &a.last
	if last.At >= at {
		return out
	}
	state := next(r, last, hit, at)
	if state == last.State {
		return out
	}
	t := alert.Transition{
		Rule: r.ID, Series: s.key, From: last.State, State: state, At: at, Since: last.Since, FiredAt: last.FiredAt,
		Received: time.Now().UnixMilli(), Value: alert.Value(value), Labels: last.Labels, Annotations: last.Annotations, Customer: r.customer,
	}
	if last.State == alert.Inactive {
		t.Since, t.FiredAt = at, 0
	}
	if state == alert.Firing && !last.State.Active() {
		t.FiredAt = at
	}
	if !last.State.Active() {
		t.Labels, t.Annotations = r.render(s.labels, value, e.external)
		t.Annotations = withNotes(t.Annotations, s.notes)
	}
	e.enter(a, t)
	return append(out, t)
}

// withNotes adds notes to annotations that the rule does not have itself.
func withNotes(annotations, notes map[string]string) map[string]string {
	for name, text := range notes {
		if annotations == nil {
			annotations = make(map[string]string, len(notes))
		}
		if annotations[name] == "" {
			annotations[name] = text
		}
	}
	return annotations
}

// render makes an alert's labels and annotations.
func (r *Rule) render(of []series.Label, value float64, ext external) (labels, annotations map[string]string) {
	seen := make(map[string]string, len(of))
	labels = make(map[string]string, len(of)+len(r.labelTexts)+1)
	for _, l := range of {
		seen[l.Name] = l.Value
		if l.Name != series.NameLabel {
			labels[l.Name] = l.Value
		}
	}
	data := templateData{Labels: seen, Value: value, Expr: r.Expr, ExternalLabels: ext.labels, ExternalURL: ext.url}
	renderTexts(labels, r.labelTexts, data)
	labels[alert.NameLabel] = r.Name
	if len(r.text) > 0 {
		annotations = make(map[string]string, len(r.text))
		renderTexts(annotations, r.text, data)
	}
	return labels, annotations
}

// staleAfter is how long another operand's last value counts, in milliseconds: Prometheus' lookback of 5 min.
const staleAfter = int64(5 * time.Minute / time.Millisecond)

// Series is one series as the engine sees it. Get it from Engine.Series and keep it: looking it up is the expensive part.
type Series struct {
	name     string
	id       string // own labels with the metric name
	key      string // own labels without it: names the alert
	board    string
	own      []series.Label
	registry []series.Label
	labels   []series.Label // own and registry

	// Guarded by the engine's mutex.
	gen     uint64
	tests   []test
	watched []watching
	value   float64
	at      int64
	notes   map[string]string // see Engine.Annotate
}

// test is a rule that this series alone decides.
type test struct {
	rule  *Rule
	op    operator
	limit float64
	// release is the limit while the alert fires, where that is another: hysteresis.
	release *float64
	alert   *alertState // nil until the alert was active once
}

// alertState is the state of one rule for one series: its last transition. The zero value is inactive.
type alertState struct {
	last alert.Transition
	// value and labels are those of the last reading for which the condition held, labels nil since a restart. They
	// are shown, and decide nothing: nobody journals them.
	value  float64
	labels []series.Label
}

// holds notes that the condition holds.
func (a *alertState) holds(value float64, labels []series.Label) { a.value, a.labels = value, labels }

type alertKey struct{ rule, series string }

// newSeries copies the labels; the registry's win over the board's own.
func newSeries(own, registry []series.Label) *Series {
	s := &Series{
		name: series.Get(own, series.NameLabel), board: series.Get(own, alert.BoardLabel),
		own: series.Sorted(own), registry: series.Sorted(registry),
	}
	s.id = series.Key(s.own, "")
	s.key = series.Key(s.own, series.NameLabel)
	s.labels = series.Merge(s.own, s.registry)
	return s
}

// ownKey is labelKey of own labels, in any order.
func ownKey(own []series.Label) string { return series.Key(series.Sorted(own), "") }

// matchKey writes the labels that must agree between two operands of an operator.
func (n *node) matchKey(labels []series.Label) string {
	var b strings.Builder
	for _, l := range labels {
		if l.Name != series.NameLabel && slices.Contains(n.labels, l.Name) == n.isOn {
			b.WriteString(series.Pair(l.Name, l.Value) + ",")
		}
	}
	return b.String()
}
