package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
)

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
