// Package ruletest runs tests of alerting rules in promtool's format.
//
// It owns the format, with vmalert-tool's additions, and the comparison of expected and actual alerts and samples. It
// drives an engine from outside, as a collector does, and decides nothing itself: rules, states and templates are
// alerting's.
package ruletest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"bramble/alerting/rules"
	"bramble/storage/series"
)

// staleAfter is how long a value counts, in milliseconds: Prometheus' lookback of 5 min.
const staleAfter = int64(5 * time.Minute / time.Millisecond)

// testAhead is how far in the future a series may end: the store drops rows that are more than two days ahead.
const testAhead = 47 * time.Hour

// Store holds the series of a rules test. *storage.Store is one.
type Store interface {
	rules.Querier
	rules.Recorder
}

// Run runs files of rules tests in promtool's format, with the engine and the state machine that decide real readings.
// Each test has an empty store from open, and time that passes from one evaluation to the next. Rules that one reading
// decides are given each series' newest value at each evaluation. A failed check is written to w, with file, line,
// expected and got. The error says that a file could not be read or run, or how many checks failed.
func Run(ctx context.Context, files []string, w io.Writer, open func() (Store, func() error, error)) error {
	var errs []error
	checks, failed := 0, 0
	for _, name := range files {
		f, err := readFile(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		problems, err := f.run(ctx, open)
		errs = append(errs, err)
		checks += f.checks()
		failed += len(problems)
		for _, p := range problems {
			fmt.Fprintln(w, p)
		}
		if err == nil && len(problems) == 0 {
			fmt.Fprintf(w, "%s: ok, %d tests, %d checks\n", name, len(f.tests), f.checks())
		}
	}
	if failed > 0 {
		errs = append(errs, fmt.Errorf("%d of %d checks failed", failed, checks))
	}
	return errors.Join(errs...)
}

func (f *file) checks() (n int) {
	for _, t := range f.tests {
		n += len(t.alerts) + len(t.exprs)
	}
	return n
}

// run runs the tests of a file and returns the failed checks.
func (f *file) run(ctx context.Context, open func() (Store, func() error, error)) (problems []string, err error) {
	for i := range f.tests {
		store, done, err := open()
		if err != nil {
			return problems, fmt.Errorf("%s: %w", f.tests[i].name, err)
		}
		more, err := f.runOne(ctx, &f.tests[i], store)
		if err = errors.Join(err, done()); err != nil {
			return problems, fmt.Errorf("%s: %w", f.tests[i].name, err)
		}
		problems = append(problems, more...)
	}
	return problems, nil
}

func (f *file) runOne(ctx context.Context, t *test, store Store) ([]string, error) {
	p, err := f.player(t, store)
	if err != nil {
		return nil, err
	}
	var problems []string
	slices.SortStableFunc(t.alerts, func(a, b alertTest) int { return cmp.Compare(a.at, b.at) })
	left := t.alerts
	last := t.last()
	for at := time.Duration(0); at <= last; at += f.every {
		if err := p.evaluate(ctx, t.start.Add(at)); err != nil {
			return nil, err
		}
		for ; len(left) > 0 && left[0].at < at+f.every; left = left[1:] {
			if d := p.check(left[0]); d != "" {
				problems = append(problems, fmt.Sprintf("%s:%d: %s", f.name, left[0].line, d))
			}
		}
	}
	for _, e := range t.exprs {
		d, err := e.check(ctx, t.querier(store), t.start.Add(e.at))
		if err != nil {
			d = err.Error()
		}
		if d != "" {
			problems = append(problems, fmt.Sprintf("%s:%d: %s", f.name, e.line, d))
		}
	}
	return problems, nil
}

// querier is the test's store at the test's times.
func (t *test) querier(store Store) rules.Querier {
	if t.shifted {
		return shiftedQuerier{store}
	}
	return store
}

// last is the time of the last check: series that rules record exist until then.
func (t *test) last() (last time.Duration) {
	for _, c := range t.alerts {
		last = max(last, c.at)
	}
	for _, c := range t.exprs {
		last = max(last, c.at)
	}
	return last
}

// player plays one test's series to an engine.
type player struct {
	engine *rules.Engine
	groups map[string]string // by rule ID
	store  rules.Querier
	series []playedSeries
}

type playedSeries struct {
	testSeries
	handle *rules.Series
	next   int // of its samples, the first that has not come
}

func (f *file) player(t *test, store Store) (*player, error) {
	loaded, err := rules.Load(f.rules)
	if err != nil {
		return nil, err
	}
	groups := map[string]string{}
	for _, g := range loaded.Groups {
		g.Interval = 0 // every group is evaluated every time
		for _, r := range g.Rules {
			groups[r.ID] = g.Name
		}
	}
	place := func(g *rules.Group) int { return slices.Index(f.order, g.Name) }
	slices.SortStableFunc(loaded.Groups, func(a, b *rules.Group) int { return cmp.Compare(place(a), place(b)) })
	p := &player{engine: rules.NewEngine(loaded), groups: groups, store: t.querier(store)}
	p.engine.RecordTo(store)
	p.engine.SetExternal(t.external, t.url)
	var samples []series.Sample
	for _, s := range t.series {
		p.series = append(p.series, playedSeries{testSeries: s, handle: p.engine.Series(s.labels, nil)})
		if n := len(s.at); n > 0 && s.at[n-1] > time.Now().Add(testAhead).UnixMilli() {
			return nil, fmt.Errorf("series %s ends in the future, at %s: the store takes nothing from there; let the test begin earlier, or shorten it",
				seriesText(s.labels), time.UnixMilli(s.at[n-1]).UTC().Format(time.DateOnly))
		}
		for i, at := range s.at {
			samples = append(samples, series.Sample{Labels: s.labels, At: at, Value: s.values[i]})
		}
	}
	return p, store.Record(samples)
}

// evaluate lets the engine decide at one time of the test.
func (p *player) evaluate(ctx context.Context, at time.Time) error {
	var readings []rules.Reading
	for i := range p.series {
		s := &p.series[i]
		for s.next < len(s.at) && s.at[s.next] <= at.UnixMilli() {
			s.next++
		}
		if last := s.next - 1; last >= 0 && at.UnixMilli()-s.at[last] < staleAfter && !math.IsNaN(s.values[last]) {
			readings = append(readings, rules.Reading{Series: s.handle, Value: s.values[last]})
			continue
		}
		p.engine.MarkStale(s.handle)
	}
	p.engine.Observe("test", at.UnixMilli(), readings)
	_, err := p.engine.Evaluate(ctx, p.store, at)
	return err
}

// check compares the alerts that fire with the expected ones and describes the difference, "" for none.
func (p *player) check(c alertTest) string {
	var got, want []string
	for _, t := range p.engine.FiringNow() {
		if t.Labels[alertLabel] == c.name && (c.group == "" || p.groups[t.Rule] == c.group) {
			got = append(got, sentAlert{t.Labels, t.Annotations}.String())
		}
	}
	for _, a := range c.want {
		labels := maps.Clone(a.Labels)
		if labels == nil {
			labels = map[string]string{}
		}
		labels[alertLabel] = c.name
		want = append(want, sentAlert{labels, a.Annotations}.String())
	}
	return difference(fmt.Sprintf("alert %s at %s", c.name, c.at), want, got)
}

// String writes labels and annotations, without empty ones: to a receiver they are absent.
func (a sentAlert) String() string {
	text := labelText(withoutEmpty(a.Labels))
	if annotations := withoutEmpty(a.Annotations); len(annotations) > 0 {
		text += " annotations " + labelText(annotations)
	}
	return text
}

// check queries the expression and describes the difference from the expected samples, "" for none.
func (c exprTest) check(ctx context.Context, q rules.Querier, at time.Time) (string, error) {
	found, err := q.Query(ctx, c.expr, at)
	if err != nil {
		return "", err
	}
	var got []sample
	for _, r := range found {
		if n := len(r.Values); n > 0 {
			got = append(got, sample{seriesText(r.Labels), r.Values[n-1]})
		}
	}
	bySeries := func(a, b sample) int {
		return cmp.Or(strings.Compare(a.series, b.series), cmp.Compare(a.value, b.value))
	}
	want := slices.SortedFunc(slices.Values(c.want), bySeries)
	slices.SortFunc(got, bySeries)
	if slices.EqualFunc(want, got, c.same) {
		return "", nil
	}
	return difference(fmt.Sprintf("expression %s at %s", c.expr, c.at), sampleTexts(want), sampleTexts(got)), nil
}

// same compares a sample with the expected one, to the last bit or, where the test is fuzzy, but for that.
func (c exprTest) same(want, got sample) bool {
	same := want.value == got.value || math.IsNaN(want.value) && math.IsNaN(got.value)
	if c.fuzzy {
		same = same || math.Nextafter(want.value, got.value) == got.value
	}
	return want.series == got.series && same
}

func sampleTexts(ss []sample) (out []string) {
	for _, s := range ss {
		out = append(out, fmt.Sprintf("%s %v", s.series, s.value))
	}
	return out
}

// difference writes the expected and the actual texts, "" where they are the same.
func difference(about string, want, got []string) string {
	slices.Sort(want)
	slices.Sort(got)
	if slices.Equal(want, got) {
		return ""
	}
	list := func(texts []string) string {
		if len(texts) == 0 {
			return "nothing"
		}
		return strings.Join(texts, "\n            ")
	}
	return fmt.Sprintf("%s\n  expected: %s\n  got:      %s", about, list(want), list(got))
}
