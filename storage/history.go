package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
)

// ErrHistoryQuery is wrapped by [Rollups.History] where the question has no answer.
var ErrHistoryQuery = errors.New("ask for a history")

// maxSteps is how many steps a history has at most: more than any screen has pixels.
const maxSteps = 10_000

// HistoryQuery asks how a metric did over a range. A step that ends at T is of the readings after T − Step and up to T;
// steps are aligned to Unix time, so the first and the last may reach beyond the range.
type HistoryQuery struct {
	Metric string
	Match  []Label  // labels that a series must have
	By     []string // labels that are told apart; all others are put together. Order counts for nothing
	Start  time.Time
	End    time.Time
	Step   time.Duration // a multiple of [Bucket]
}

// Span is how one group of series did. Its slices have the same length and ascending times; steps without a reading
// are left out.
type Span struct {
	Labels []Label // those of By that the series have
	At     []int64 // ends of the steps, Unix milliseconds
	// Min, Max and Mean are of all readings of the step, not of averages; Count is how many there were.
	Min, Max, Mean, Count []float64
}

func (q *HistoryQuery) check() error { return q.checkSteps(Bucket) }

// checkSteps takes steps that are a multiple of unit.
func (q *HistoryQuery) checkSteps(unit time.Duration) error {
	switch {
	case q.Metric == "":
		return fmt.Errorf("%w: no metric is named", ErrHistoryQuery)
	case q.Step < unit || q.Step%unit != 0:
		return fmt.Errorf("%w of %s: a step of %s is no multiple of %s", ErrHistoryQuery, q.Metric, q.Step, unit)
	case q.End.Before(q.Start):
		return fmt.Errorf("%w of %s: its end %s is before its start %s", ErrHistoryQuery, q.Metric, q.End.UTC(), q.Start.UTC())
	case q.End.Sub(q.Start)/q.Step > maxSteps:
		return fmt.Errorf("%w of %s: %s in steps of %s are more than %d of them: use longer steps", ErrHistoryQuery, q.Metric, q.End.Sub(q.Start), q.Step, maxSteps)
	}
	return nil
}

// History answers from the rollups as far as they go and from raw readings from there on, which are not rolled up
// before they can no longer arrive late. No reading counts twice or is left out where the two meet, also inside a step.
func (r *Rollups) History(ctx context.Context, q HistoryQuery) ([]Span, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	h := history{query: &q, spans: map[string]*spanSteps{}}
	for _, p := range q.parts(r.Until()) {
		var err error
		if p.rolled {
			err = h.askRollups(ctx, r.Rolled, p)
		} else {
			err = h.askRaw(ctx, r.Raw, r.Differences, p)
		}
		if err != nil {
			return nil, err
		}
	}
	return h.result(), nil
}

// RangeQuerier evaluates an expression over a range, as [Store] and a remote store do.
type RangeQuerier interface {
	QueryRange(ctx context.Context, expr string, start, end time.Time, step time.Duration) ([]Result, error)
}

// QueryHistory answers from a store that has readings alone, by queries.
func QueryHistory(ctx context.Context, s RangeQuerier, differences []Difference, q HistoryQuery) ([]Span, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	return queryReadings(ctx, s, differences, q)
}

// QueryReadings is QueryHistory for steps of any number of whole seconds.
func QueryReadings(ctx context.Context, s RangeQuerier, differences []Difference, q HistoryQuery) ([]Span, error) {
	if err := q.checkSteps(time.Second); err != nil {
		return nil, err
	}
	return queryReadings(ctx, s, differences, q)
}

func queryReadings(ctx context.Context, s RangeQuerier, differences []Difference, q HistoryQuery) ([]Span, error) {
	over := q.selector(q.Metric)
	h := history{query: &q, spans: map[string]*spanSteps{}}
	p := part{from: floor(q.Start, q.Step), to: ceil(q.End, q.Step), step: q.Step}
	for _, d := range differences {
		if d.As == q.Metric {
			over, p.every = d.expr(&q), differenceEvery(q.Step)
		}
	}
	if err := h.ask(ctx, s, p, func(a aggregate) (string, string) { return a.reading, over }); err != nil {
		return nil, err
	}
	return h.result(), nil
}

// part is a piece of the range that one store answers: the time after from, up to to.
type part struct {
	rolled   bool
	from, to time.Time
	step     time.Duration // of the query: how it is asked for
	every    string        // how often an expression is evaluated within a step; empty for series
}

// parts divides the range at the time until which readings are rolled up. Of the step that it falls into, the buckets
// that are rolled up are asked for one by one.
func (q *HistoryQuery) parts(until time.Time) []part {
	first, last := floor(q.Start, q.Step), ceil(q.End, q.Step)
	until = earlier(later(until, first), last)
	seam := floor(until, q.Step)
	all := []part{
		{rolled: true, from: first, to: seam, step: q.Step},
		{rolled: true, from: seam, to: until, step: Bucket},
		{from: until, to: last},
	}
	return slices.DeleteFunc(all, func(p part) bool { return !p.from.Before(p.to) })
}

// floor and ceil round to a multiple of step since 1970.
func floor(t time.Time, step time.Duration) time.Time {
	return time.UnixMilli(t.UnixMilli() / step.Milliseconds() * step.Milliseconds())
}

func ceil(t time.Time, step time.Duration) time.Time {
	return floor(t.Add(step-time.Millisecond), step)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// history puts the answers of several parts together.
type history struct {
	query *HistoryQuery
	spans map[string]*spanSteps // by their labels
}

type spanSteps struct {
	labels []Label
	steps  map[int64]*bucket
}

// aggregate is a way to put series together, and values in time.
type aggregate struct {
	function, suffix string
	reading          string // the function in time of readings; that of rollups is function's
	take             func(b *bucket, v float64)
}

var aggregates = []aggregate{
	{"min", minSuffix, "min_over_time", func(b *bucket, v float64) { b.min = min(b.min, v) }},
	{"max", maxSuffix, "max_over_time", func(b *bucket, v float64) { b.max = max(b.max, v) }},
	{"sum", sumSuffix, "sum_over_time", func(b *bucket, v float64) { b.sum += v }},
	{"sum", countSuffix, "count_over_time", func(b *bucket, v float64) { b.count += v }},
}

func (h *history) askRollups(ctx context.Context, s *Store, p part) error {
	return h.ask(ctx, s, p, func(a aggregate) (function, over string) {
		return a.function + "_over_time", h.query.selector(h.query.Metric + a.suffix)
	})
}

// ask asks for each aggregate of the expression that of returns for it.
func (h *history) ask(ctx context.Context, s RangeQuerier, p part, of func(aggregate) (function, over string)) error {
	for _, a := range aggregates {
		function, over := of(a)
		expr := fmt.Sprintf("%s(%s(%s[%ds%s])) by (%s)", a.function, function, over, int64(p.step.Seconds()), p.every, strings.Join(h.query.By, ","))
		found, err := s.QueryRange(ctx, expr, p.from.Add(p.step), p.to, p.step)
		if err != nil {
			return fmt.Errorf("history of %s: %w", h.query.Metric, err)
		}
		for _, f := range found {
			steps := h.stepsOf(f.Labels)
			for i, at := range f.At {
				a.take(steps.at(at, h.query.Step), f.Values[i])
			}
		}
	}
	return nil
}

// askRaw reads the readings themselves.
func (h *history) askRaw(ctx context.Context, s *Store, differences []Difference, p part) error {
	take := func(name *vm.MetricName, at []int64, values []float64) error {
		steps := h.stepsOf(h.query.by(name))
		for i, t := range at {
			steps.at(t, h.query.Step).take(values[i])
		}
		return nil
	}
	times := between(p.from, p.to)
	for _, d := range differences {
		if d.As == h.query.Metric {
			return s.scanDifference(ctx, d, h.query.Match, times, take)
		}
	}
	return s.scan(ctx, h.query.Metric, h.query.Match, times, take)
}

// by returns those labels of a series that are told apart.
func (q *HistoryQuery) by(name *vm.MetricName) (labels []Label) {
	for _, l := range labelsOf(name) {
		if slices.Contains(q.By, l.Name) {
			labels = append(labels, l)
		}
	}
	return labels
}

// selector names the series of a metric that the query is about.
func (q *HistoryQuery) selector(metric string) string {
	var b strings.Builder
	b.WriteString("{__name__=" + strconv.Quote(metric))
	for _, l := range q.Match {
		b.WriteString("," + l.Name + "=" + strconv.Quote(l.Value))
	}
	b.WriteByte('}')
	return b.String()
}

func (h *history) stepsOf(labels []Label) *spanSteps {
	key := fmt.Sprintf("%q", labels)
	if h.spans[key] == nil {
		h.spans[key] = &spanSteps{labels: labels, steps: map[int64]*bucket{}}
	}
	return h.spans[key]
}

// at returns the step that a time lies in.
func (s *spanSteps) at(t int64, step time.Duration) *bucket {
	end := ceil(time.UnixMilli(t), step).UnixMilli()
	if s.steps[end] == nil {
		s.steps[end] = &bucket{end: end, min: math.Inf(1), max: math.Inf(-1)}
	}
	return s.steps[end]
}

// result returns the spans in the order of their labels.
func (h *history) result() []Span {
	all := []Span{}
	for _, key := range slices.Sorted(maps.Keys(h.spans)) {
		of := h.spans[key]
		span := Span{Labels: of.labels}
		for _, end := range slices.Sorted(maps.Keys(of.steps)) {
			b := of.steps[end]
			span.At = append(span.At, end)
			span.Min, span.Max = append(span.Min, b.min), append(span.Max, b.max)
			span.Mean, span.Count = append(span.Mean, b.sum/b.count), append(span.Count, b.count)
		}
		all = append(all, span)
	}
	return all
}
