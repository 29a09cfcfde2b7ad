package alerting

import (
	"slices"
	"strings"
	"time"

	"bramble/alerting/alert"
	"bramble/storage/series"
)

// staleAfter is how long another operand's last value counts, in milliseconds: Prometheus' lookback of 5 min.
const staleAfter = int64(5 * time.Minute / time.Millisecond)

// Series is one series as the engine sees it. Get it from Engine.Series and keep it: looking it up is what costs.
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

// matchKey is what must agree between two operands of an operator.
func (n *node) matchKey(labels []series.Label) string {
	var b strings.Builder
	for _, l := range labels {
		if l.Name != series.NameLabel && slices.Contains(n.labels, l.Name) == n.isOn {
			b.WriteString(series.Pair(l.Name, l.Value) + ",")
		}
	}
	return b.String()
}
