package storage_test

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/storage"
	"bramble/storage/storagetest"
)

func TestDropsAreCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := storagetest.Open(t, t.TempDir(), storage.Options{Registerer: registry, Retention: 48 * time.Hour})
	now := time.Now()
	series := storagetest.Temperature("b1")
	storagetest.Add(t, s, []storage.Row{
		{Series: series, At: now.UnixMilli(), Value: 1},
		{Series: series, At: now.Add(-72 * time.Hour).UnixMilli(), Value: 2},
		{Series: series, At: now.Add(72 * time.Hour).UnixMilli(), Value: 3},
		{Series: series, At: now.Add(73 * time.Hour).UnixMilli(), Value: 4},
		{Series: series, At: now.UnixMilli() + 1, Value: math.NaN()},
		{Series: storage.Series("not a series"), At: now.UnixMilli(), Value: 5},
	})
	want := map[string]float64{
		"bramble_storage_rows_added_total":                   1,
		"bramble_storage_rows_dropped_total{too_old}":        1,
		"bramble_storage_rows_dropped_total{too_far_ahead}":  2,
		"bramble_storage_rows_dropped_total{nan}":            1,
		"bramble_storage_rows_dropped_total{invalid_series}": 1,
		"bramble_storage_rows_dropped_total{cardinality}":    0,
		"bramble_storage_read_only":                          0,
		"bramble_storage_disk_free_limit_bytes":              100 << 20,
		"bramble_storage_series_created_total":               1,
		"bramble_storage_rows":                               1,
		"bramble_storage_rows_in_memory":                     1,
		"bramble_storage_barrier_seconds":                    0,
	}
	got := gather(t, registry)
	for name, v := range want {
		if g, ok := got[name]; !ok || g != v {
			t.Errorf("%s: got %v (present: %v), want %v", name, g, ok, v)
		}
	}
	if got["bramble_storage_disk_free_bytes"] <= 0 {
		t.Error("free disk space is not told")
	}
	if err := s.Barrier(); err != nil {
		t.Fatal(err)
	}
	got = gather(t, registry)
	if got["bramble_storage_barrier_seconds"] != 1 || got["bramble_storage_rows_in_memory"] != 0 || got["bramble_storage_size_bytes"] <= 0 {
		t.Errorf("after a barrier: %v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left := gather(t, registry); len(left) != 0 {
		t.Errorf("a closed store still has metrics: %v", left)
	}
}

func gather(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += "{" + l.GetValue() + "}"
			}
			out[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return out
}
