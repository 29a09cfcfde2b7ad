package storage

import (
	"math"
	"strings"
	"time"

	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
)

// Bucket is the length of time that one row of a rollup stands for. Buckets are aligned to Unix time; a row at T is
// of the readings after T − Bucket and up to T, as the window of max_over_time(…[15m]) at T.
const Bucket = 15 * time.Minute

// Suffixes of the rollups' metric names: pi_soc_temperature_celsius:15m_max.
const (
	minSuffix      = ":15m_min"
	maxSuffix      = ":15m_max"
	sumSuffix      = ":15m_sum"
	countSuffix    = ":15m_count"
	increaseSuffix = ":15m_increase"
)

// counterReach is how far before a reading of a counter the one before it is looked for, to tell its increase.
const counterReach = time.Hour

// isCounter goes by the name, as Prometheus' conventions do: types are not stored.
func isCounter(metric string) bool { return strings.HasSuffix(metric, "_total") }

// roller turns the rows of one series into those of its rollups. It uses its memory again for each series.
type roller struct {
	from  int64 // rows up to this time only tell where a counter stood
	rows  []Row
	taken int // values that are in rows by now

	suffix [5]Series // of the series in hand: min, max, sum, count, increase
}

// roll appends the rollups' rows of one series.
func (r *roller) roll(name *vm.MetricName, at []int64, values []float64) {
	counter := isCounter(string(name.MetricGroup))
	r.name(name, counter)
	var b bucket
	for i, t := range at {
		if t <= r.from || math.IsNaN(values[i]) {
			continue
		}
		if end := bucketEnd(t); end != b.end {
			r.put(&b, counter)
			b = bucket{end: end, min: values[i], max: values[i]}
		}
		b.take(values[i])
		r.taken++
		if i > 0 && counter && !math.IsNaN(values[i-1]) && t-at[i-1] <= counterReach.Milliseconds() {
			b.climb(values[i-1], values[i])
		}
	}
	r.put(&b, counter)
}

// bucketEnd is the end of the bucket that a time lies in, in Unix milliseconds. Rows are not older than 1970.
func bucketEnd(at int64) int64 {
	length := Bucket.Milliseconds()
	return (at + length - 1) / length * length
}

// name makes the names of the rollups: those of the series, with a suffix on the metric's.
func (r *roller) name(of *vm.MetricName, counter bool) {
	labels := labelsOf(of)
	metric := labels[0].Value
	for i, suffix := range []string{minSuffix, maxSuffix, sumSuffix, countSuffix, increaseSuffix} {
		if suffix == increaseSuffix && !counter {
			continue
		}
		labels[0].Value = metric + suffix
		r.suffix[i] = SeriesOf(labels)
	}
}

// put appends the rows of a bucket that has any reading: there is no row for an empty one.
func (r *roller) put(b *bucket, counter bool) {
	if b.count == 0 {
		return
	}
	for i, v := range [...]float64{b.min, b.max, b.sum, b.count} {
		r.rows = append(r.rows, Row{Series: r.suffix[i], At: b.end, Value: v})
	}
	if counter && b.climbed {
		r.rows = append(r.rows, Row{Series: r.suffix[4], At: b.end, Value: b.increase})
	}
}

// bucket sums up the readings of one bucket so far.
type bucket struct {
	end                  int64
	min, max, sum, count float64
	increase             float64
	climbed              bool // some reading had one before it to compare with
}

func (b *bucket) take(v float64) {
	b.min, b.max = min(b.min, v), max(b.max, v)
	b.sum += v
	b.count++
}

// climb adds a counter's increase between two readings. One that fell began again at zero.
func (b *bucket) climb(from, to float64) {
	b.climbed = true
	if to < from {
		from = 0
	}
	b.increase += to - from
}
