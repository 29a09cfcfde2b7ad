package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
	"github.com/prometheus/client_golang/prometheus"

	"bramble/storage/internal/lifecycle"
)

const (
	// rollupChunk is how much is rolled up at a time, aligned to UTC: a day of readings every 10 s is about one block
	// of the engine, which is decoded as a whole for any part of it.
	rollupChunk = 24 * time.Hour
	// rollupMargin is for a clock that is set back a little: readings that were too late before are not, then.
	rollupMargin = time.Hour
	// rollupReserve is how long before readings expire they have to be rolled up: a collector that was away that
	// long still finds them by itself.
	rollupReserve = 24 * time.Hour
	// rollupLook is how often the clock is looked at, rollupRetry how soon a failure is tried again.
	rollupLook  = 15 * time.Minute
	rollupRetry = time.Minute
	// rollupShare is which part of the time rolling up works rather than waits: it is never urgent.
	rollupShare = 0.25
	// rollupPace is how long it works between two waits.
	rollupPace = 20 * time.Millisecond
	// rollupBatch is how many rows go into the store of the rollups at once.
	rollupBatch = 10_000
	// markEvery is how much work may have to be done again.
	markEvery = time.Minute
	// settleTime is how long a pass waits for the raw store to have all acknowledged readings.
	settleTime = time.Minute
)

// MinRollupRetention is the shortest retention of raw rows that leaves time to roll them up, for rows that arrive up to
// late behind their time.
func MinRollupRetention(late time.Duration) time.Duration {
	return late + rollupChunk + rollupReserve
}

// RollupOptions configure [NewRollups]. Raw, Rolled and Late are required.
type RollupOptions struct {
	Raw    *Store // the series that are rolled up
	Rolled *Store // where the rollups go; it belongs to them alone
	// Late is how far behind its time a row may still be added to Raw.
	Late time.Duration
	// Differences are rolled up beside the series: what two of them had between them at one instant cannot be told from
	// what each of them did in a quarter of an hour.
	Differences []Difference
	// Settle returns when Raw has every row that was accepted before the call; nil where rows go straight into it.
	Settle     func(ctx context.Context) error
	Log        *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil registers nothing
}

// Rollups keep, for each bucket of 15 minutes and each series of a store, the least, the greatest, the sum and the
// number of its values, and for counters (names that end with _total) the increase: as series of a second store, named
// METRIC:15m_min, _max, _sum, _count and _increase, with the labels of the raw series. A bucket without values has no
// row. Buckets are computed once, when their values can no longer arrive, a day at a time; computing them again
// writes the same rows. The zero value is not usable; methods are safe for concurrent use.
type Rollups struct {
	RollupOptions
	metrics *rollupMetrics
	failing lifecycle.Transition

	mu    sync.Mutex
	until time.Time // all buckets that end by then are on disk; zero before the first
}

// NewRollups finds out how far the rollups are, where their store is open. Nothing is computed before [Rollups.Run]. It closes neither store.
func NewRollups(ctx context.Context, o RollupOptions) (*Rollups, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Late <= 0 {
		return nil, fmt.Errorf("open rollups: readings may be %s late: want more than 0", o.Late)
	}
	if least := MinRollupRetention(o.Late); o.Raw.retention() < least {
		return nil, fmt.Errorf("open rollups: a retention of %s is too short: readings may be %s late, so it takes %s before they are rolled up",
			o.Raw.retention(), o.Late, least)
	}
	r := &Rollups{RollupOptions: o}
	err := r.Resume(ctx)
	if err != nil && !errors.Is(err, ErrNotOpen) {
		return nil, err
	}
	r.metrics, err = newRollupMetrics(r)
	return r, err
}

// Resume finds out how far the rollups are, for stores that were opened after [NewRollups].
func (r *Rollups) Resume(ctx context.Context) error {
	until, err := rolledUntil(ctx, r.Rolled, time.Now().Add(-r.Late))
	if err != nil {
		return fmt.Errorf("open rollups: %w", err)
	}
	r.setUntil(until)
	return nil
}

// Until is the time by which everything is rolled up; zero where nothing is yet.
func (r *Rollups) Until() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.until
}

func (r *Rollups) setUntil(t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.until = t
}

// Run rolls up all that is due until ctx ends, and returns nil. Failures are logged, counted and tried again.
func (r *Rollups) Run(ctx context.Context) error {
	for {
		wait := rollupLook
		err := r.CatchUp(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			wait = rollupRetry
			r.metrics.failures.Inc()
		}
		if r.failing.Changed(err != nil) {
			if err != nil {
				r.Log.Error("readings are not rolled up; this is tried again, and raw readings are kept for their retention", "err", err)
			} else {
				r.Log.Info("readings are rolled up again")
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// CatchUp rolls up every day that is complete. It returns at once when there is none. What it has done when it fails or
// ctx ends is marked once a minute; the rest is done again. Days before the first rows that were ever rolled up are not
// marked: a history that is put into a store that was empty so far would stay below the mark, and expire.
func (r *Rollups) CatchUp(ctx context.Context) error {
	marked, behind := time.Now(), 0
	began := !r.Until().IsZero()
	for done := r.Until(); ; {
		// Read before Settle: readings that are accepted from here on belong to later buckets.
		limit := time.Now().Add(-r.Late - rollupMargin)
		from, err := r.begin(ctx, &done, limit)
		if err != nil {
			return err
		}
		to := ceil(from.Add(time.Millisecond), rollupChunk) // the end of its day
		due := !to.After(limit)
		if began && !done.Equal(r.Until()) && (!due || time.Since(marked) > markEvery) {
			if err := markRolled(r.Rolled, done, time.Now()); err != nil {
				return err
			}
			r.setUntil(done)
			marked = time.Now()
		}
		if !due {
			if behind > 1 {
				r.Log.Info("readings are rolled up", "days", behind, "until", done.UTC())
			}
			return nil
		}
		if began {
			if behind++; behind == 2 {
				r.Log.Info("more than one day of readings is to be rolled up", "from", from.UTC(), "to", limit.UTC())
			}
		}
		if err := r.settle(ctx); err != nil {
			return err
		}
		added, err := r.chunk(ctx, from, to)
		if err != nil {
			return fmt.Errorf("roll up %s: %w", from.UTC().Format(time.DateOnly), err)
		}
		done, began = to, began || added > 0
	}
}

func (r *Rollups) settle(ctx context.Context) error {
	if r.Settle == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	return r.Settle(ctx)
}

// begin says where to go on after what is done, which it corrects where the clock was set back. What has expired in the
// meantime is counted and told, and the rest goes on.
func (r *Rollups) begin(ctx context.Context, done *time.Time, limit time.Time) (from time.Time, err error) {
	if done.After(limit) {
		if *done, err = rolledUntil(ctx, r.Rolled, limit); err != nil {
			return from, err
		}
		r.setUntil(*done)
	}
	oldest, err := oldestMonth(r.Raw.dir)
	if err != nil {
		return from, err
	}
	expired := ceil(time.Now().Add(-r.Raw.retention()), Bucket)
	switch {
	case oldest.IsZero():
		return limit, nil // there is nothing to roll up yet
	case done.IsZero(): // nothing was ever rolled up
		return later(oldest.Add(-Bucket), expired), nil // a reading at the month's very begin ends a bucket of the month before
	case done.Before(expired):
		r.metrics.expired.Add(expired.Sub(*done).Seconds())
		r.Log.Error("readings have expired before they were rolled up; their time has no rollups", "from", done.UTC(), "to", expired.UTC())
		*done = expired
		r.setUntil(expired)
	}
	return *done, nil
}

// chunk rolls up the readings after from and up to to, and returns how many rows of rollups that were.
func (r *Rollups) chunk(ctx context.Context, from, to time.Time) (added int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	metrics, err := r.Raw.metricNames(between(from, to))
	if err != nil {
		return 0, err
	}
	w := &rollupWriter{to: r.Rolled, roller: roller{from: from.UnixMilli()}, pace: pace{ctx: ctx, since: time.Now()}}
	for _, metric := range metrics {
		times := between(from, to)
		if isCounter(metric) {
			times.MinTimestamp -= counterReach.Milliseconds()
		}
		if err := r.Raw.scan(ctx, metric, nil, times, w.series); err != nil {
			return 0, err
		}
	}
	for _, d := range r.Differences {
		if err := r.Raw.scanDifference(ctx, d, nil, between(from, to), w.series); err != nil {
			return 0, err
		}
	}
	if err := w.flush(); err != nil {
		return 0, err
	}
	r.metrics.chunk(w)
	return w.added, nil
}

// rollupWriter puts a roller's rows into the store, in batches, and keeps the pace.
type rollupWriter struct {
	roller
	pace
	to    *Store
	added int
}

func (w *rollupWriter) series(name *vm.MetricName, at []int64, values []float64) error {
	w.roll(name, at, values)
	if len(w.rows) >= rollupBatch {
		if err := w.flush(); err != nil {
			return err
		}
	}
	return w.keep()
}

func (w *rollupWriter) flush() error {
	if len(w.rows) == 0 {
		return nil
	}
	if err := w.to.Add(w.rows); err != nil {
		return err
	}
	w.added += len(w.rows)
	w.rows = w.rows[:0]
	return nil
}

// pace waits so that work takes rollupShare of the time. It is not safe for concurrent use.
type pace struct {
	ctx    context.Context
	since  time.Time // when the present piece of work began
	worked time.Duration
}

func (p *pace) keep() error {
	worked := time.Since(p.since)
	if worked < rollupPace {
		return nil
	}
	p.worked += worked
	select {
	case <-p.ctx.Done():
		return p.ctx.Err()
	case <-time.After(time.Duration(float64(worked) * (1/rollupShare - 1))):
	}
	p.since = time.Now()
	return nil
}

// markMetric is the series that tells how far the rollups are. It is in their own store, so that a snapshot of it has
// rows and mark of one instant: a row at T says that all buckets that end by T are there, its value when that was
// found, in Unix seconds.
const markMetric = "bramble_rollup_computed_timestamp_seconds"

var markSeries = SeriesOf([]Label{{Name: "__name__", Value: markMetric}})

// markRolled writes the mark once all before it is on disk, and returns when the mark is, too.
func markRolled(s *Store, until, now time.Time) error {
	if err := s.Barrier(); err != nil {
		return err
	}
	if err := s.Add([]Row{{Series: markSeries, At: until.UnixMilli(), Value: float64(now.Unix())}}); err != nil {
		return err
	}
	return s.Barrier()
}

// rolledUntil finds the newest mark that is not after limit; zero where there is none. A mark that was made in the
// future is one of a wrong clock, which had seen no end of readings that were still to come.
func rolledUntil(ctx context.Context, s *Store, limit time.Time) (until time.Time, err error) {
	now := float64(time.Now().Unix())
	times := vm.TimeRange{MinTimestamp: 0, MaxTimestamp: limit.UnixMilli()}
	err = s.scan(ctx, markMetric, nil, times, func(_ *vm.MetricName, at []int64, values []float64) error {
		for i := range at {
			if values[i] <= now {
				until = time.UnixMilli(at[i])
			}
		}
		return nil
	})
	if err != nil {
		return until, fmt.Errorf("read how far the rollups are: %w", err)
	}
	return until, nil
}

// oldestMonth returns the begin of the oldest month that the store in dir has rows of, zero for none. It goes by the
// folders of the engine, which are named 2006_01.
func oldestMonth(dir string) (oldest time.Time, err error) {
	for _, size := range []string{"small", "big"} {
		entries, err := os.ReadDir(filepath.Join(dir, "data", size))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return oldest, fmt.Errorf("look for the oldest readings: %w", err)
		}
		for _, e := range entries {
			month, err := time.Parse("2006_01", e.Name())
			if err == nil && e.IsDir() && (oldest.IsZero() || month.Before(oldest)) {
				oldest = month
			}
		}
	}
	return oldest, nil
}

// RetentionFor returns the retention to open the store in dir with, so that nothing in it expires before it is rolled
// up: want, or more where rolled is that far behind, because the collector was away, or because want is new and shorter
// than what dir was filled under. What is kept longer than wanted goes at the next start.
func RetentionFor(ctx context.Context, dir string, rolled *Store, want time.Duration) (time.Duration, error) {
	until, err := rolledUntil(ctx, rolled, time.Now())
	if err == nil && until.IsZero() {
		until, err = oldestMonth(dir)
	}
	if err != nil || until.IsZero() {
		return want, err
	}
	// A month more for the work itself, which is paced.
	need := time.Since(until) + 31*24*time.Hour
	if time.Since(until) < want-rollupReserve {
		return want, nil
	}
	return min(max(want, need), maxRetention), nil
}

// maxRetention is the engine's own upper limit (lib/storage.retentionMax).
const maxRetention = 100 * 12 * 31 * 24 * time.Hour

func rollupDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("bramble_rollup_"+name, help, nil, nil)
}

var (
	rolledSince    = rollupDesc("behind_seconds", "Age of the newest reading that is rolled up; absent before the first.")
	rolledHeld     = rollupDesc("rows", "Rows that the store of the rollups holds; duplicates count until they are merged.")
	rolledSize     = rollupDesc("size_bytes", "Size of the rollups and their index on disk.")
	rawRetained    = rollupDesc("raw_retention_seconds", "How long raw readings are kept at present; longer than configured until old ones were rolled up and the collector was started again.")
	rollupTaken    = prometheus.CounterOpts{Name: "bramble_rollup_readings_total", Help: "Readings that were rolled up since the start."}
	rollupAdded    = prometheus.CounterOpts{Name: "bramble_rollup_rows_added_total", Help: "Rows of rollups that were written since the start."}
	rollupExpired  = prometheus.CounterOpts{Name: "bramble_rollup_expired_seconds_total", Help: "Time whose readings expired before they were rolled up, since the start."}
	rollupFailures = prometheus.CounterOpts{Name: "bramble_rollup_failures_total", Help: "Attempts to roll up that failed since the start; each is tried again."}
	rollupWorked   = prometheus.CounterOpts{Name: "bramble_rollup_work_seconds_total", Help: "Time that rolling up has worked, its pauses left out, since the start."}
)

// rollupMetrics are those of one Rollups.
type rollupMetrics struct {
	lifecycle.Registration
	of *Rollups

	taken, added, expired, failures, worked prometheus.Counter
}

func newRollupMetrics(r *Rollups) (*rollupMetrics, error) {
	m := &rollupMetrics{
		of: r, taken: prometheus.NewCounter(rollupTaken), added: prometheus.NewCounter(rollupAdded), expired: prometheus.NewCounter(rollupExpired),
		failures: prometheus.NewCounter(rollupFailures), worked: prometheus.NewCounter(rollupWorked),
	}
	return m, m.Register(r.Registerer, m)
}

func (m *rollupMetrics) counters() []prometheus.Counter {
	return []prometheus.Counter{m.taken, m.added, m.expired, m.failures, m.worked}
}

// chunk counts the cost of one day.
func (m *rollupMetrics) chunk(w *rollupWriter) {
	m.taken.Add(float64(w.taken))
	m.added.Add(float64(w.added))
	m.worked.Add((w.worked + time.Since(w.since)).Seconds())
}

// Describe implements prometheus.Collector.
func (m *rollupMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{rolledSince, rolledHeld, rolledSize, rawRetained} {
		to <- d
	}
	for _, c := range m.counters() {
		c.Describe(to)
	}
}

// Collect implements prometheus.Collector. Rollups of a closed store have no metrics.
func (m *rollupMetrics) Collect(to chan<- prometheus.Metric) {
	s := m.of.Rolled
	if s.gate.Enter() != nil {
		return
	}
	defer s.gate.Leave()
	gauge := func(d *prometheus.Desc, v float64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	var e vm.Metrics
	s.db.UpdateMetrics(&e)
	t := &e.TableMetrics
	gauge(rolledHeld, float64(t.PendingRows+t.InmemoryRowsCount+t.SmallRowsCount+t.BigRowsCount))
	data, index := sizes(&e)
	gauge(rolledSize, float64(data+index))
	gauge(rawRetained, m.of.Raw.retention().Seconds())
	if until := m.of.Until(); !until.IsZero() {
		gauge(rolledSince, time.Since(until).Seconds())
	}
	for _, c := range m.counters() {
		c.Collect(to)
	}
}
