package importer

import (
	"fmt"
	"hash/maphash"
	"math"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/storage"
	"bramble/storage/internal/lifecycle"
)

const (
	// maxImportLabels and maxLabelName are far above what exporters have; values may have storage.MaxLabelBytes.
	maxImportLabels = 64
	maxLabelName    = 256
	// maxImportSeries is how many series may be imported in a day (UTC), the known ones included: one label with a
	// request's id in it would fill the store's index otherwise.
	maxImportSeries = 200_000
	// maxAhead is the engine's own limit.
	maxAhead = 2 * 24 * time.Hour
)

// Why a row is refused.
const (
	reservedName  = "reserved_name"
	reservedLabel = "reserved_label"
	malformed     = "malformed"
	tooLong       = "too_long"
	tooOldRow     = "too_old"
	tooFarAhead   = "too_far_ahead"
	seriesLimit   = "series_limit"
)

// reservedPrefixes begin the names of metrics that the collector alone writes, reservedLabels are labels that say
// whose a series is: dashboards, rules and permissions believe them.
var (
	reservedPrefixes = []string{"pi_", "pisensor_", "bramble_"}
	reservedLabels   = []string{"board", "customer"}
)

// checkLabels returns why a series is refused, "" where it is not. An empty value counts as absent.
func checkLabels(labels []storage.Label) (reason, detail string) {
	name := ""
	seen := make(map[string]bool, len(labels))
	for _, l := range labels {
		switch {
		case seen[l.Name]:
			return malformed, fmt.Sprintf("label %s stands twice", short(l.Name))
		case len(l.Name) > maxLabelName || len(l.Value) > storage.MaxLabelBytes:
			return tooLong, fmt.Sprintf("label %s: a name has at most %d bytes, a value %d", short(l.Name), maxLabelName, storage.MaxLabelBytes)
		case l.Name == "" || !utf8.ValidString(l.Name) || !utf8.ValidString(l.Value):
			return malformed, fmt.Sprintf("label %s is empty or no UTF-8", short(l.Name))
		}
		seen[l.Name] = true
		if l.Name == "__name__" {
			name = l.Value
		} else if reason, detail := checkLabel(l); reason != "" {
			return reason, detail
		}
	}
	if name == "" {
		return malformed, "a series without a name"
	}
	if len(labels) > maxImportLabels {
		return tooLong, fmt.Sprintf("%s has %d labels, at most %d are taken", short(name), len(labels), maxImportLabels)
	}
	for _, p := range reservedPrefixes {
		if strings.HasPrefix(name, p) {
			return reservedName, fmt.Sprintf("%s: names that begin with %s are the collector's own; import it under another name", short(name), p)
		}
	}
	return "", ""
}

func checkLabel(l storage.Label) (reason, detail string) {
	if strings.HasPrefix(l.Name, "__") {
		return reservedLabel, fmt.Sprintf("label %s: names that begin with __ are reserved", short(l.Name))
	}
	for _, name := range reservedLabels {
		if l.Name == name && l.Value != "" {
			return reservedLabel, fmt.Sprintf("label %s: only the collector says whose a series is; rename it, such as to exported_%s", name, name)
		}
	}
	return "", ""
}

// short shows a name that may be long or no text.
func short(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}

// add takes the rows of one series. Times are Unix milliseconds.
func (t *tally) add(labels []storage.Label, at []int64, values []float64) error {
	if reason, detail := checkLabels(labels); reason != "" {
		t.refuse(reason, detail, len(at))
		return nil
	}
	series := storage.SeriesOf(labels)
	if !t.importer.series.take(series, t.now) {
		t.refuse(seriesLimit, fmt.Sprintf("more than %d series in a day", maxImportSeries), len(at))
		return nil
	}
	newest, oldest := t.now.Add(maxAhead).UnixMilli(), int64(0)
	if r := t.importer.options.Retention; r > 0 {
		oldest = t.now.Add(-r).UnixMilli()
	}
	for i := range at {
		switch {
		case math.IsNaN(values[i]):
			t.left++
			t.importer.metrics.left.Inc()
			continue
		case at[i] > newest:
			t.refuse(tooFarAhead, fmt.Sprintf("time %d is more than two days ahead; times are Unix milliseconds", at[i]), 1)
			continue
		case at[i] < oldest:
			t.refuse(tooOldRow, fmt.Sprintf("time %d is older than the retention; times are Unix milliseconds", at[i]), 1)
			continue
		}
		t.rows = append(t.rows, storage.Row{Series: series, At: at[i], Value: values[i]})
	}
	if len(t.rows) < importBatch {
		return nil
	}
	return t.flush()
}

// seriesBudget counts the series of a day. The zero value is ready.
type seriesBudget struct {
	mu   sync.Mutex
	day  int64
	seen map[uint64]struct{}
}

var budgetSeed = maphash.MakeSeed()

// take reports whether a series is known or there is room for it.
func (b *seriesBudget) take(s storage.Series, now time.Time) bool {
	key := maphash.Bytes(budgetSeed, s)
	b.mu.Lock()
	defer b.mu.Unlock()
	if day := now.Unix() / (24 * 3600); b.seen == nil || day != b.day {
		b.day, b.seen = day, map[uint64]struct{}{}
	}
	if _, ok := b.seen[key]; ok {
		return true
	}
	if len(b.seen) >= maxImportSeries {
		return false
	}
	b.seen[key] = struct{}{}
	return true
}

type importMetrics struct {
	lifecycle.Registration
	rows, left        prometheus.Counter
	refused, requests *prometheus.CounterVec
}

func newImportMetrics(r prometheus.Registerer) (*importMetrics, error) {
	name := func(n, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "bramble_import_" + n, Help: help}
	}
	m := &importMetrics{
		rows:     prometheus.NewCounter(name("rows_total", "Imported rows that were stored.")),
		left:     prometheus.NewCounter(name("rows_nan_total", "Imported rows without a number, which are not stored: Prometheus' stale markers among them.")),
		refused:  prometheus.NewCounterVec(name("rows_refused_total", "Imported rows, or lines where no row could be read, that were refused, by reason."), []string{"reason"}),
		requests: prometheus.NewCounterVec(name("requests_total", "Import requests, by the code of the answer."), []string{"code"}),
	}
	return m, m.Register(r, m.rows, m.left, m.refused, m.requests)
}
