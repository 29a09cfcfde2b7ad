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
	By     []string // what is told apart; everything else is put together. Order counts for nothing
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

func (q *HistoryQuery) check() error {
	switch {
	case q.Metric == "":
		return fmt.Errorf("%w: no metric is named", ErrHistoryQuery)
	case q.Step < Bucket || q.Step%Bucket != 0:
		return fmt.Errorf("%w of %s: a step of %s is no multiple of %s", ErrHistoryQuery, q.Metric, q.Step, Bucket)
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
		p.store = r.Raw
		if p.rolled {
			p.store = r.Rolled
		}
		if err := h.ask(ctx, p); err != nil {
			return nil, err
		}
	}
	return h.result(), nil
}

// part is a piece of the range that one store answers: steps that end after from, up to to.
type part struct {
	store    *Store
	rolled   bool
	from, to time.Time
	step     time.Duration
}

// parts divides the range at the time until which readings are rolled up. The step that it falls into, if any, is put
// together from buckets of both stores.
func (q *HistoryQuery) parts(until time.Time) []part {
	first, last := floor(q.Start, q.Step), ceil(q.End, q.Step)
	seam, after := floor(until, q.Step), ceil(until, q.Step)
	all := []part{
		{rolled: true, from: first, to: earlier(seam, last), step: q.Step},
		{from: later(after, first), to: last, step: q.Step},
	}
	if seam.Before(last) && after.After(first) {
		all = append(all, part{rolled: true, from: seam, to: until, step: Bucket}, part{from: until, to: after, step: Bucket})
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

// aggregates are what is asked of each part: how series are put together, how values are in time, raw and rolled up.
var aggregates = []struct {
	group, raw, rolled, suffix string
	take                       func(b *bucket, v float64)
}{
	{"min", "min", "min", minSuffix, func(b *bucket, v float64) { b.min = min(b.min, v) }},
	{"max", "max", "max", maxSuffix, func(b *bucket, v float64) { b.max = max(b.max, v) }},
	{"sum", "sum", "sum", sumSuffix, func(b *bucket, v float64) { b.sum += v }},
	{"sum", "count", "sum", countSuffix, func(b *bucket, v float64) { b.count += v }},
}

func (h *history) ask(ctx context.Context, p part) error {
	for _, a := range aggregates {
		over, metric := a.raw, h.query.Metric
		if p.rolled {
			over, metric = a.rolled, metric+a.suffix
		}
		expr := fmt.Sprintf("%s(%s_over_time(%s[%ds])) by (%s)", a.group, over, h.query.selector(metric), int64(p.step.Seconds()), strings.Join(h.query.By, ","))
		found, err := p.store.QueryRange(ctx, expr, p.from.Add(p.step), p.to, p.step)
		if err != nil {
			return fmt.Errorf("history of %s: %w", h.query.Metric, err)
		}
		for _, f := range found {
			steps := h.stepsOf(f.Labels)
			for i, at := range f.At {
				a.take(steps.at(ceil(time.UnixMilli(at), h.query.Step).UnixMilli()), f.Values[i])
			}
		}
	}
	return nil
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

func (s *spanSteps) at(end int64) *bucket {
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
