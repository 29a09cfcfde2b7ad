package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bramble/alerting/rules"
	"bramble/storage"
)

// TestBackupRules lets the default rules look at the series of a collector's backups, on arrival and in a real store.
func TestBackupRules(t *testing.T) {
	store, err := storage.Open(t.TempDir(), storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	begin := time.Now().Add(-12 * time.Hour).Truncate(time.Minute)
	// f puts the values for some hours, and returns the alerts that fire at the end.
	f := func(hours int, values map[string]float64, want ...string) {
		t.Helper()
		e := rules.NewEngine(rules.Default())
		var now time.Time
		for m := range hours * 60 {
			now = begin.Add(time.Duration(m) * time.Minute)
			var rows []storage.Row
			var readings []rules.Reading
			for series, v := range values {
				name, result, _ := strings.Cut(series, "/")
				labels := []storage.Label{{Name: "__name__", Value: name}, {Name: "result", Value: result}}
				rows = append(rows, storage.Row{Series: storage.SeriesOf(labels), At: now.UnixMilli(), Value: v})
				readings = append(readings, rules.Reading{Series: e.Series(labels, nil), Value: v})
			}
			if err := store.Add(rows); err != nil {
				t.Fatal(err)
			}
			e.Observe("collector/own", now.UnixMilli(), readings)
			if _, err := e.Evaluate(t.Context(), store, now); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for _, tr := range e.Firing() {
			got = append(got, tr.Labels["alertname"])
			if s := tr.Annotations["summary"]; s == "" || strings.Contains(s, "{{") {
				t.Errorf("%s: summary %q", tr.Labels["alertname"], s)
			}
		}
		slices.Sort(got)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v for %d h: firing %v, want %v", values, hours, got, want)
		}
		begin = now.Add(10 * time.Minute) // queries look five minutes back
	}
	const day = 86400
	fine := map[string]float64{
		"bramble_backup_interval_seconds": day, "bramble_backup_age_seconds": day, "bramble_backups/good": 3, "bramble_backups/bad": 1,
		"bramble_backup_size_ratio": 0.9, "bramble_backup_last_attempt_failed": 0, "bramble_storage_read_only": 0,
	}
	with := func(name string, v float64) map[string]float64 {
		m := map[string]float64{name: v}
		for k, v := range fine {
			if k != name {
				m[k] = v
			}
		}
		return m
	}
	f(1, fine)
	f(1, with("bramble_backup_age_seconds", 1.6*day), "BackupStale")
	f(1, with("bramble_backup_last_attempt_failed", 1), "BackupFailed")
	f(1, with("bramble_backup_size_ratio", 0.4), "BackupShrunk")
	f(1, with("bramble_backups/good", 0))
	f(3, with("bramble_backups/good", 0), "BackupNeverVerified")
	f(3, map[string]float64{"bramble_backups/good": 0}) // none are scheduled
	f(1, map[string]float64{"bramble_storage_read_only": 1}, "DiskFull")
	f(1, map[string]float64{"bramble_storage_read_only": 0, "bramble_ingest_paused": 1}, "DiskFull") // the journal's disk
	f(1, map[string]float64{"bramble_ingest_paused": 1}, "DiskFull")                                 // the store is elsewhere
}
