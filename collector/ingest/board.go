package ingest

import (
	"net/netip"
	"strconv"
	"time"

	"bramble/alerting/rules"
	"bramble/collector/registry"
	"bramble/pisensor/report"
	"bramble/storage"
)

const (
	// maxSeries a board may have at a time, and maxNewSeries it may begin in a
	// day: one that invents device names must not grow the index for ever.
	maxSeries    = report.MaxColumns
	maxNewSeries = 200
	// seriesRest is how long a series must be unheard of before another takes its place.
	seriesRest = 10 * time.Minute
)

// board is the loop's state of one board.
type board struct {
	name     string
	registry *registry.Board // the snapshot that the columns were made for
	columns  map[columnKey]*column

	sessions sessions
	seen     int64 // time of the latest reading taken, Unix ms
	info     []report.Attribute
	boot     boot
	expected *Expectation
	address  netip.Addr // of its last connection
	upSent

	series   map[report.Series]int64 // time of its last reading, Unix ms
	day      int64                   // since 1970, of newToday
	newToday int
}

type columnKey struct {
	series report.Series
	from   int64 // of the labels' version
}

// column is a series of a report under one version of the board's labels.
type column struct {
	definition *report.Definition
	outputs    []output // none where the metric is retired
}

// output is a stored series: a column itself, or one bit of it.
type output struct {
	row  storage.Series
	rule *rules.Series
	live string
	bit  int // -1: the whole value
}

// value returns the output's value for a wire value.
func (o *output) value(d *report.Definition, wire int64) float64 {
	if o.bit >= 0 {
		return float64(wire >> o.bit & 1)
	}
	return d.Base(wire)
}

// version returns the labels in force at a time: the last ones that began by
// then, and before all of them the first.
func version(b *registry.Board, at int64) *registry.Version {
	v := &b.Versions[0]
	for i := range b.Versions {
		if b.Versions[i].From <= at {
			v = &b.Versions[i]
		}
	}
	return v
}

// refresh takes over a new snapshot of the registry.
func (b *board) refresh(now *registry.Board) {
	if b.registry == now {
		return
	}
	b.registry = now
	b.columns = make(map[columnKey]*column)
	b.upOutput, b.bootOutputs = nil, nil
}

// column returns the outputs of a series under a version of the labels.
func (b *board) column(e *rules.Engine, s report.Series, v *registry.Version) *column {
	key := columnKey{s, v.From}
	c := b.columns[key]
	if c == nil {
		c = b.newColumn(e, s, v)
		b.columns[key] = c
	}
	return c
}

func (b *board) newColumn(e *rules.Engine, s report.Series, v *registry.Version) *column {
	d := report.Define(s.Metric)
	c := &column{definition: d}
	if d.Retired {
		return c
	}
	if d.Bits == nil {
		c.outputs = []output{newOutput(e, b.name, d.Name, ownLabels(d, s.Instance), v, -1)}
		return c
	}
	for bit, reason := range d.Bits {
		c.outputs = append(c.outputs, newOutput(e, b.name, d.Name, []storage.Label{{Name: "reason", Value: reason}}, v, bit))
	}
	return c
}

func ownLabels(d *report.Definition, instance string) []storage.Label {
	switch {
	case d.InstanceLabel != "":
		return []storage.Label{{Name: d.InstanceLabel, Value: instance}}
	case d.Label != "":
		return []storage.Label{{Name: d.Label, Value: d.Value}}
	}
	return nil
}

// newOutput names a series for the store, the live pages and, where there is an
// engine, the rules.
func newOutput(e *rules.Engine, board, name string, own []storage.Label, v *registry.Version, bit int) output {
	live := name
	if len(own) == 1 {
		live += "{" + own[0].Name + "=" + strconv.Quote(own[0].Value) + "}"
	}
	own = append([]storage.Label{{Name: "__name__", Value: name}, {Name: "board", Value: board}}, own...)
	placed := registryLabels(v)
	o := output{row: storage.SeriesOf(append(own[:len(own):len(own)], placed...)), live: live, bit: bit}
	if e != nil {
		o.rule = e.Series(own, placed)
	}
	return o
}

func registryLabels(v *registry.Version) []storage.Label {
	labels := make([]storage.Label, len(v.Labels))
	for i, l := range v.Labels {
		labels[i] = storage.Label{Name: l.Name, Value: l.Value}
	}
	return labels
}

// admit reports whether the board may have this series, at a time in Unix ms.
func (b *board) admit(s report.Series, now int64) bool {
	if _, ok := b.series[s]; ok {
		b.series[s] = now
		return true
	}
	if day := now / (24 * time.Hour).Milliseconds(); day != b.day {
		b.day, b.newToday = day, 0
	}
	if b.newToday >= maxNewSeries || len(b.series) >= maxSeries && !b.forget(now) {
		return false
	}
	if b.series == nil {
		b.series = make(map[report.Series]int64)
	}
	b.newToday++
	b.series[s] = now
	return true
}

// forget drops series that rest, and reports whether there were any.
func (b *board) forget(now int64) bool {
	before := len(b.series)
	for s, heard := range b.series {
		if now-heard > seriesRest.Milliseconds() {
			delete(b.series, s)
		}
	}
	return len(b.series) < before
}
