package storage

import (
	"context"
	"fmt"
	"slices"
	"time"

	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
)

// Difference is how much one series exceeds another of the same metric at the same time, and 0 where it does not. The
// two differ in the value of one label, which the difference has no more.
type Difference struct {
	Metric, Label string
	Of, Less      string // values of the label: Of − Less
	As            string // the metric of the difference
}

// differenceStep is the longest time between two instants at which a difference is evaluated where it is queried: as often
// as boards report by default.
const differenceStep = 10 * time.Second

// differenceEvery returns how often a difference is evaluated within steps of a length, as the end of a range selector.
// An evaluation falls into each step, so that the difference has a value wherever its two series have one.
func differenceEvery(step time.Duration) string {
	return fmt.Sprintf(":%ds", int64(min(step, differenceStep).Seconds()))
}

// expr is the difference as an expression, of the series that a history is about.
func (d *Difference) expr(q *HistoryQuery) string {
	of := func(value string) string {
		one := *q
		one.Match = append(slices.Clone(q.Match), Label{Name: d.Label, Value: value})
		return one.selector(d.Metric)
	}
	return fmt.Sprintf("(clamp_min(%s - ignoring(%s) %s, 0))", of(d.Of), d.Label, of(d.Less))
}

// pair is where the rows of two series are that differ in the label alone.
type pair struct{ of, less *seriesBlocks }

// scanDifference is scan of the difference d. Rows that only one of the two series has are left out.
func (s *Store) scanDifference(ctx context.Context, d Difference, match []Label, times vm.TimeRange, f scanned) error {
	return s.blocks(ctx, d.Metric, match, times, func(blocks []seriesBlocks) error {
		pairs, err := d.pairs(blocks)
		if err != nil {
			return err
		}
		for _, p := range pairs {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := d.read(p, times, f); err != nil {
				return err
			}
		}
		return nil
	})
}

// pairs joins blocks by the names of their series without the label.
func (d *Difference) pairs(blocks []seriesBlocks) (all []*pair, err error) {
	known := map[string]*pair{}
	for i := range blocks {
		var name vm.MetricName
		if err := name.UnmarshalString(blocks[i].name); err != nil {
			return nil, err
		}
		value := string(name.GetTagValue(d.Label))
		name.RemoveTag(d.Label)
		key := string(name.Marshal(nil))
		p := known[key]
		if p == nil {
			p = new(pair)
			known[key], all = p, append(all, p)
		}
		switch value {
		case d.Of:
			p.of = &blocks[i]
		case d.Less:
			p.less = &blocks[i]
		}
	}
	return slices.DeleteFunc(all, func(p *pair) bool { return p.of == nil || p.less == nil }), nil
}

func (d *Difference) read(p *pair, times vm.TimeRange, f scanned) error {
	var at []int64
	var values []float64
	err := p.less.read(times, func(_ *vm.MetricName, t []int64, v []float64) error {
		at, values = slices.Clone(t), slices.Clone(v)
		return nil
	})
	if err != nil {
		return err
	}
	return p.of.read(times, func(name *vm.MetricName, t []int64, v []float64) error {
		n := subtract(at, values, t, v)
		if n == 0 {
			return nil
		}
		name.RemoveTag(d.Label)
		name.MetricGroup = []byte(d.As)
		return f(name, at[:n], values[:n])
	})
}

// subtract replaces the n first of at and values by the times that both have, and by how much others are above values.
func subtract(at []int64, values []float64, otherAt []int64, others []float64) (n int) {
	i := 0
	for j, t := range otherAt {
		for i < len(at) && at[i] < t {
			i++
		}
		if i < len(at) && at[i] == t {
			at[n], values[n] = t, max(0, others[j]-values[i])
			n++
			i++
		}
	}
	return n
}
