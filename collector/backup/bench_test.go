package backup

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bramble/storage"
)

// peakEnv makes the checking process write the most anonymous memory that it
// had, in bytes, to this file at its end.
const peakEnv = "BRAMBLE_BACKUP_PEAK"

const peakEvery = 5 * time.Millisecond

// watchPeak follows the process's anonymous memory until its end.
func watchPeak() *atomic.Int64 {
	peak := new(atomic.Int64)
	go func() {
		for range time.Tick(peakEvery) {
			peak.Store(max(peak.Load(), anonymous()))
		}
	}()
	return peak
}

// anonymous is the process's memory that is not a mapped file's, in bytes.
func anonymous() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// warm adds temperatures that wander in the firmware's steps, one every 10 s, each with a few milliseconds of jitter.
func (c *collector) warm(b *testing.B, series, each int) {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	start := time.Now().Add(-time.Hour - time.Duration(each)*10*time.Second).UnixMilli()
	rows := make([]storage.Row, each)
	for n := range series {
		name := storage.SeriesOf([]storage.Label{{Name: "__name__", Value: fmt.Sprint("pi_metric_", n%25)}, {Name: "board", Value: fmt.Sprint("b", n/25)}})
		steps := 100
		for i := range rows {
			steps += r.IntN(7) - 3
			rows[i] = storage.Row{Series: name, At: start + int64(i)*10_000 + int64(r.IntN(5)), Value: math.Round(float64(steps)*537.63) / 1000}
		}
		if err := c.Store.Add(rows); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBackup25MRows writes a backup of 25 million rows and restores it in a test, at the default rate. parent-MB
// is the growth of the collector's own process, child-MB the whole memory of the checking process.
func BenchmarkBackup25MRows(b *testing.B) {
	for _, series := range []int{2_500, 250_000} {
		b.Run(fmt.Sprint("series=", series), func(b *testing.B) { benchmark(b, series, 25_000_000/series) })
	}
}

func benchmark(b *testing.B, series, each int) {
	c := newCollector(b, b.TempDir())
	c.warm(b, series, each)
	if err := c.Store.Barrier(); err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(b.TempDir(), "peak")
	b.Setenv(peakEnv, file)
	before, peak := anonymous(), watchPeak()
	k := New(Config{Target: b.TempDir()}, c.Source, checker(b), nil)
	var m *Manifest
	for b.Loop() {
		m = create(b, k)
	}
	if m.Rows != uint64(series*each) || m.Series != uint64(series) {
		b.Errorf("%d rows of %d series", m.Rows, m.Series)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	var child float64
	if _, err := fmt.Sscan(string(text), &child); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/backup")
	b.ReportMetric(float64(m.Bytes)/1e6, "MB")
	b.ReportMetric(m.Seconds, "s-writing")
	b.ReportMetric(m.Test.Seconds, "s-test")
	b.ReportMetric(float64(peak.Load()-before)/1e6, "parent-MB")
	b.ReportMetric(child/1e6, "child-MB")
}
