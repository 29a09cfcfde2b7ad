package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// rollupChunk is how much is rolled up at a time, aligned to UTC: a day of readings every 10 s is about one block
	// of the engine, which is decoded as a whole, whatever is wanted of it.
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
	// settleTime is how long a pass waits for the raw store to have what was acknowledged.
	settleTime = time.Minute
)

// MinRollupRetention is the shortest retention of raw rows that leaves time to roll them up, for rows that arrive up to
// late behind their time.
func MinRollupRetention(late time.Duration) time.Duration {
	return late + rollupChunk + rollupReserve
}

// RollupOptions configure [NewRollups]. Raw, Rolled and Late are required.
type RollupOptions struct {
	Raw    *Store // what is rolled up
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
	failing transition

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

// Run rolls up whatever is due until ctx ends, and returns nil. Failures are logged, counted and tried again.
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
		if r.failing.changed(err != nil) {
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
		// Read before Settle: what is accepted from here on belongs to later buckets.
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

// rollupWriter puts what a roller makes into the store, in batches, and keeps the pace.
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
