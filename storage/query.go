package storage

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmselect/netstorage"
	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmselect/promql"
	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmselect/searchutil"
	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"

	"bramble/storage/series"
)

const (
	// Lookback is how far an instant query looks for a value (Prometheus' default).
	Lookback = 5 * time.Minute
	// MaxQueryTime ends a query that takes longer (VictoriaMetrics' -search.maxQueryDuration).
	MaxQueryTime = 30 * time.Second
	// MaxPoints is the most points a series has in an answer (-search.maxPointsPerTimeseries).
	MaxPoints = 30_000
	// unrounded keeps all digits of the values.
	unrounded = 100
)

// Result is one series of an answer.
type Result = series.Result

// Query evaluates the MetricsQL expression expr at one time. A selector yields the newest value of the five
// minutes before.
//
// The answer contains the rows of every [Store.Add] that returned before. To show them a query flushes, see
// freshness: that adds about a millisecond, and 0.1 s plus a flush at most. ctx's deadline holds to the
// second and is 30 s at most; a query that runs is not interrupted by a cancelled ctx.
func (s *Store) Query(ctx context.Context, expr string, at time.Time) ([]Result, error) {
	return s.evaluate(ctx, expr, at, at, Lookback)
}

// QueryRange evaluates expr at start, start+step, … up to end, for 30,000 points at most. Otherwise it is
// like [Store.Query].
func (s *Store) QueryRange(ctx context.Context, expr string, start, end time.Time, step time.Duration) ([]Result, error) {
	if step < time.Millisecond {
		return nil, fmt.Errorf("query %q: step %s is below 1ms", expr, step)
	}
	if end.Before(start) {
		return nil, fmt.Errorf("query %q: end %s is before start %s", expr, end, start)
	}
	return s.evaluate(ctx, expr, start, end, step)
}

func (s *Store) evaluate(ctx context.Context, expr string, start, end time.Time, step time.Duration) (_ []Result, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.gate.Enter(); err != nil {
		return nil, err
	}
	defer s.gate.Leave()
	defer func() { // the engine panics on some expressions that it should refuse
		if p := recover(); p != nil {
			err = fmt.Errorf("query %q: %v", expr, p)
		}
	}()
	ec := s.evalConfig(ctx, expr, start, end, step)
	if err := promql.ValidateMaxPointsPerSeries(ec.Start, ec.End, ec.Step, MaxPoints); err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, err)
	}
	s.makeVisible()
	found, err := promql.Exec(nil, ec, expr, ec.Start == ec.End)
	if err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, err)
	}
	return results(found), nil
}

// makeVisible shows all added rows to the queries that follow. The caller is inside the gate.
func (s *Store) makeVisible() { s.fresh.ensure(s.indexEntries, s.db.DebugFlush) }

// indexEntries is how many entries the index was given since the store was opened.
func (s *Store) indexEntries() uint64 {
	var m vm.Metrics
	s.db.UpdateMetrics(&m)
	return m.TableMetrics.IndexDBMetrics.ItemsAdded
}

func (s *Store) evalConfig(ctx context.Context, expr string, start, end time.Time, step time.Duration) *promql.EvalConfig {
	ec := &promql.EvalConfig{
		Start:               start.UnixMilli(),
		End:                 end.UnixMilli(),
		Step:                step.Milliseconds(),
		MaxPointsPerSeries:  MaxPoints,
		RoundDigits:         unrounded,
		QuotedRemoteAddr:    `"collector"`,
		Deadline:            deadline(ctx),
		EnforcedTagFilterss: s.picker(),
		CacheTagFilters:     s.picker(),
		GetRequestURI:       func() string { return expr },
	}
	ec.QueryStats = promql.NewQueryStats(expr, nil, ec)
	return ec
}

func deadline(ctx context.Context) searchutil.Deadline {
	now := time.Now()
	timeout := MaxQueryTime
	if at, ok := ctx.Deadline(); ok {
		timeout = min(timeout, at.Sub(now))
	}
	return searchutil.NewDeadline(now, timeout, "")
}

func results(found []netstorage.Result) []Result {
	out := make([]Result, 0, len(found))
	for i := range found {
		at, values := withoutGaps(found[i].Timestamps, found[i].Values)
		if len(at) > 0 {
			out = append(out, Result{Labels: labelsOf(&found[i].MetricName), At: at, Values: values})
		}
	}
	return out
}

// withoutGaps copies: the engine shares times among series.
func withoutGaps(at []int64, values []float64) ([]int64, []float64) {
	outAt, outValues := make([]int64, 0, len(at)), make([]float64, 0, len(at))
	for i, v := range values {
		if !math.IsNaN(v) {
			outAt, outValues = append(outAt, at[i]), append(outValues, v)
		}
	}
	return outAt, outValues
}

func labelsOf(name *vm.MetricName) []Label {
	labels := make([]Label, 0, 1+len(name.Tags))
	if len(name.MetricGroup) > 0 {
		labels = append(labels, Label{Name: "__name__", Value: string(name.MetricGroup)})
	}
	for i := range name.Tags {
		labels = append(labels, Label{Name: string(name.Tags[i].Key), Value: string(name.Tags[i].Value)})
	}
	return labels
}

// The engine shows rows to queries a few seconds after they came (4.3 s on average, 10.6 s at most). A query
// that finds rows added since the last flush therefore flushes first, and all queries that come meanwhile
// share that flush. It takes 0.5 ms for 24 boards, 1 ms for 2,000 new rows and 7 ms for 20,000. To bound the
// cost under constant writes and queries, flushes keep a pause of four times their own length.
const (
	pauseFactor = 4
	// maxFlushPause bounds the delay that a slow disk or a busy machine adds to a query.
	maxFlushPause = 100 * time.Millisecond
)

// freshness tracks whether added rows are visible to queries. The zero value is ready.
type freshness struct {
	added   atomic.Uint64 // Adds that returned
	visible atomic.Uint64 // Adds that queries see
	// indexed counts the flushes that brought new entries of the index, see [Store.compile].
	indexed atomic.Uint64

	mu      sync.Mutex // held while flushing; guards the fields below
	ended   time.Time  // of the last flush
	took    time.Duration
	entries uint64 // of the index, before the last flush
}

// ensure flushes unless all is visible already. Callers that come during a flush or the pause after it wait. entries
// returns how many entries the index was given so far.
func (f *freshness) ensure(entries func() uint64, flush func()) {
	if f.visible.Load() >= f.added.Load() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.visible.Load() >= f.added.Load() {
		return
	}
	if pause := min(pauseFactor*f.took, maxFlushPause) - time.Since(f.ended); pause > 0 {
		<-time.After(pause)
	}
	added := f.added.Load()
	start := time.Now()
	now := entries()
	flush()
	if now != f.entries {
		f.entries = now
		f.indexed.Add(1)
	}
	f.ended = time.Now()
	f.took = f.ended.Sub(start)
	f.visible.Store(added)
}
