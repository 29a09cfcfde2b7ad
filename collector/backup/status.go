package backup

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// lookEvery is how often the schedule is looked at.
	lookEvery = time.Minute
	// retryAfter is the pause behind a failed scheduled backup.
	retryAfter = 15 * time.Minute
)

// Status describes the backups of a running collector.
type Status struct {
	Target  string
	Every   time.Duration // 0: none are scheduled
	Running bool
	Entries []Entry // the newest first
	ListErr error   // why Entries could not be read
	// The last attempt since the start; the zero time before the first.
	AttemptAt  time.Time
	AttemptErr error
	Took       time.Duration
}

// Newest returns the newest good backup's manifest, or nil.
func (s *Status) Newest() *Manifest { return s.good(0) }

// good returns the n-th newest good backup's manifest, or nil.
func (s *Status) good(n int) *Manifest {
	for i := range s.Entries {
		if !s.Entries[i].Good() {
			continue
		}
		if n == 0 {
			return s.Entries[i].Manifest
		}
		n--
	}
	return nil
}

// Status returns the status. Its entries must not be changed.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.status
	s.Entries = slices.Clone(s.Entries)
	return s
}

func (k *Keeper) change(f func(*Status)) {
	k.mu.Lock()
	f(&k.status)
	k.mu.Unlock()
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

func (k *Keeper) begin() { k.change(func(s *Status) { s.Running = true }) }

func (k *Keeper) end(started time.Time, err error) {
	k.refresh()
	k.change(func(s *Status) {
		s.Running = false
		if k.base.Err() != nil {
			return // cut short by the collector's own end
		}
		s.AttemptAt, s.AttemptErr, s.Took = started, err, time.Since(started)
	})
	if err != nil {
		k.log.Error("backup failed", "err", err)
	}
}

// refresh reads the target.
func (k *Keeper) refresh() {
	entries, err := k.List(k.base)
	k.change(func(s *Status) { s.Entries, s.ListErr = entries, err })
}

// Run takes backups on schedule until ctx ends, and then cancels a running one.
func (k *Keeper) Run(ctx context.Context) error {
	// At once, also while this waits for a backup that somebody else has asked for.
	defer context.AfterFunc(ctx, k.Close)()
	k.refresh()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if k.due(time.Now()) {
			k.scheduled(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// due reports whether the newest good backup is older than the schedule allows, and no attempt has just failed.
func (k *Keeper) due(now time.Time) bool {
	s := k.Status()
	if s.Every == 0 || s.AttemptErr != nil && now.Sub(s.AttemptAt) < retryAfter {
		return false
	}
	newest := s.Newest()
	return newest == nil || now.Sub(newest.Taken) >= s.Every
}

// scheduled takes one backup and removes those that it replaces.
func (k *Keeper) scheduled(ctx context.Context) {
	m, err := k.Create(ctx)
	if err == nil {
		k.log.Info("backup taken and restored in a test", "backup", m.Name, "bytes", m.Bytes, "rows", m.Rows, "series", m.Series)
	} // else end has logged it
	if err := k.prune(ctx, time.Now()); err != nil {
		k.log.Error("old backups not removed", "err", err)
	}
	k.refresh()
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("bramble_backup_"+name, help, labels, nil)
}

var (
	kept       = prometheus.NewDesc("bramble_backups", "Backups in the target, by what their last test restore said.", []string{"result"}, nil)
	interval   = desc("interval_seconds", "How often a backup is taken; absent where none is scheduled.")
	goodAge    = desc("age_seconds", "Age of the newest backup that is known to restore.")
	tested     = desc("last_test_timestamp_seconds", "When a test restore last succeeded.")
	sizeBytes  = desc("size_bytes", "Size of the newest backup that is known to restore.")
	ratio      = desc("size_ratio", "Size of the newest good backup divided by that of the one before it.")
	rows       = desc("rows", "Rows in the newest backup that is known to restore.")
	series     = desc("series", "Series in the newest backup that is known to restore.")
	duration   = desc("duration_seconds", "How long the newest good backup took, its test restore included.")
	attempted  = desc("last_attempt_timestamp_seconds", "When a backup was last begun, since the start.")
	unfinished = desc("last_attempt_failed", "1 if the last backup since the start failed, or did not restore.")
)

// Describe implements prometheus.Collector.
func (k *Keeper) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{kept, interval, goodAge, tested, sizeBytes, ratio, rows, series, duration, attempted, unfinished} {
		to <- d
	}
}

// Collect implements prometheus.Collector. Unknown values have no sample.
func (k *Keeper) Collect(to chan<- prometheus.Metric) {
	s := k.Status()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if s.Every > 0 {
		gauge(interval, s.Every.Seconds())
	}
	if s.ListErr == nil {
		counts := s.counts()
		for _, result := range []string{"good", "untested", "bad"} {
			gauge(kept, float64(counts[result]), result)
		}
	}
	if !s.AttemptAt.IsZero() {
		failed := 0.0
		if s.AttemptErr != nil {
			failed = 1
		}
		gauge(attempted, float64(s.AttemptAt.Unix()))
		gauge(unfinished, failed)
	}
	s.collectNewest(gauge)
}

// counts sorts the entries by their result.
func (s *Status) counts() map[string]int {
	n := map[string]int{}
	for _, e := range s.Entries {
		switch {
		case e.Good():
			n["good"]++
		case e.Err == nil && e.Manifest.Test == nil:
			n["untested"]++
		default:
			n["bad"]++
		}
	}
	return n
}

func (s *Status) collectNewest(gauge func(*prometheus.Desc, float64, ...string)) {
	newest := s.Newest()
	if newest == nil {
		return
	}
	gauge(goodAge, time.Since(newest.Taken).Seconds())
	gauge(sizeBytes, float64(newest.Bytes))
	gauge(rows, float64(newest.Rows))
	gauge(series, float64(newest.Series))
	gauge(duration, newest.Seconds+newest.Test.Seconds)
	gauge(tested, float64(s.lastTest().Unix()))
	if before := s.good(1); before != nil && before.Bytes > 0 {
		gauge(ratio, float64(newest.Bytes)/float64(before.Bytes))
	}
}

// lastTest is when any test restore last succeeded.
func (s *Status) lastTest() (at time.Time) {
	for i := range s.Entries {
		if s.Entries[i].Good() && s.Entries[i].Manifest.Test.At.After(at) {
			at = s.Entries[i].Manifest.Test.At
		}
	}
	return at
}
