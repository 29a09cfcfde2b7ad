package alerting

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"bramble/storage"
)

const (
	nameLabel  = "__name__"
	boardLabel = "board"
	alertLabel = "alertname"
)

// staleAfter is how long another operand's last value counts, in milliseconds: Prometheus' lookback of 5 min.
const staleAfter = int64(5 * time.Minute / time.Millisecond)

// Series is one series as the engine sees it. Get it from Engine.Series and keep it: looking it up is what costs.
type Series struct {
	name     string
	id       string // own labels with the metric name
	key      string // own labels without it: names the alert
	board    string
	own      []storage.Label
	registry []storage.Label
	labels   []storage.Label // own and registry

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
	alert   *alert // nil until the alert was active once
}

// alert is the state of one rule for one series: its last transition. The zero value is inactive.
type alert struct {
	last Transition
	// value and labels are those of the last reading for which the condition held, labels nil since a restart. They
	// are shown, and decide nothing: nobody journals them.
	value  float64
	labels []storage.Label
}

// holds notes that the condition holds.
func (a *alert) holds(value float64, labels []storage.Label) { a.value, a.labels = value, labels }

type alertKey struct{ rule, series string }

// newSeries copies the labels; the registry's win over the board's own.
func newSeries(own, registry []storage.Label) *Series {
	s := &Series{
		name: labelValue(own, nameLabel), board: labelValue(own, boardLabel),
		own: sortLabels(own), registry: sortLabels(registry),
	}
	s.id = labelKey(s.own, "")
	s.key = labelKey(s.own, nameLabel)
	s.labels = mergeLabels(s.own, s.registry)
	return s
}

// sortLabels returns a copy sorted by name, without empty values: absent and empty are the same label.
func sortLabels(labels []storage.Label) []storage.Label {
	out := slices.DeleteFunc(slices.Clone(labels), func(l storage.Label) bool { return l.Value == "" })
	slices.SortFunc(out, func(a, b storage.Label) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func mergeLabels(own, registry []storage.Label) []storage.Label {
	m := make(map[string]string, len(own)+len(registry))
	for _, l := range own {
		m[l.Name] = l.Value
	}
	for _, l := range registry {
		m[l.Name] = l.Value
	}
	out := make([]storage.Label, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, storage.Label{Name: name, Value: m[name]})
	}
	return out
}

// labelKey writes sorted labels as a="1",b="2", leaving out one name. It is valid UTF-8, since it goes into JSON.
func labelKey(sorted []storage.Label, without string) string {
	var b strings.Builder
	for _, l := range sorted {
		if l.Name == without {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(labelPair(l.Name, l.Value))
	}
	return b.String()
}

// labelPair writes one label as it stands in a key.
func labelPair(name, value string) string { return name + "=" + strconv.Quote(value) }

// ownKey is labelKey of own labels, in any order.
func ownKey(own []storage.Label) string { return labelKey(sortLabels(own), "") }

func labelValue(labels []storage.Label, name string) string {
	for _, l := range labels {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// matchKey is what must agree between two operands of an operator.
func (n *node) matchKey(labels []storage.Label) string {
	var b strings.Builder
	for _, l := range labels {
		if l.Name != nameLabel && slices.Contains(n.labels, l.Name) == n.isOn {
			b.WriteString(labelPair(l.Name, l.Value) + ",")
		}
	}
	return b.String()
}
