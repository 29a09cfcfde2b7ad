package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"bramble/pisensor/report"
)

// metricMetadata is an entry of /api/v1/metadata.
type metricMetadata struct{ Type, Help, Unit string }

// TestPrometheusAPI asks a collector about itself, by the names that Prometheus has.
func TestPrometheusAPI(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	ask := func(path string, status int, data any) string {
		t.Helper()
		code, body, err := s.request("GET", path, nil)
		if err != nil || code != status {
			t.Fatalf("%s: %d %s, %v", path, code, body, err)
		}
		var a struct {
			Error string
			Data  json.RawMessage
		}
		if err := json.Unmarshal(body, &a); err != nil {
			t.Fatalf("%s: %v: %s", path, err, body)
		}
		if data == nil {
			return a.Error
		}
		if err := json.Unmarshal(a.Data, data); err != nil {
			t.Fatalf("%s: %v: %s", path, err, body)
		}
		return ""
	}
	var all map[string][]metricMetadata
	ask("/api/v1/metadata", 200, &all)
	for _, name := range append(report.SeriesNames(), "pi_board_up", "pi_info", "pi_boot_time_seconds", "pi_boots_total", "bramble_storage_disk_free_bytes", "bramble_reports_rejected_total") {
		m := all[name]
		if len(m) != 1 || m[0].Help == "" || (m[0].Type == "counter") != strings.HasSuffix(name, "_total") {
			t.Errorf("metadata of %s: %+v", name, m)
		}
	}
	var some map[string][]metricMetadata
	if ask("/api/v1/metadata?limit=2", 200, &some); len(some) != 2 {
		t.Errorf("limit=2: %v", some)
	}
	some = nil
	if ask("/prometheus/api/v1/metadata?metric=pi_load1", 200, &some); len(some) != 1 || some["pi_load1"] == nil {
		t.Errorf("metric=pi_load1: %v", some)
	}
	some = nil
	if ask("/api/v1/metadata?metric=none", 200, &some); len(some) != 0 {
		t.Errorf("metric=none: %v", some)
	}
	if refused := ask("/api/v1/metadata?limit=ten", 400, nil); !strings.Contains(refused, `limit "ten": use a number`) {
		t.Errorf("limit=ten: %s", refused)
	}
	var exemplars []any
	if ask("/api/v1/query_exemplars?query=pi_load1", 200, &exemplars); exemplars == nil || len(exemplars) > 0 {
		t.Errorf("exemplars: %v", exemplars)
	}
	var config map[string]string
	if ask("/api/v1/status/config", 200, &config); config["yaml"] != "" || len(config) != 1 {
		t.Errorf("config: %v", config)
	}
	var formatted string
	if ask("/api/v1/format_query?query=sum(a)by(b)", 200, &formatted); formatted != "sum(a) by(b)" {
		t.Errorf("formatted: %q", formatted)
	}
	var info struct {
		StartTime, LastConfigTime              time.Time
		ReloadConfigSuccess                    bool
		StorageRetention, Hostname, CWD        string
		GoroutineCount, GOMAXPROCS, GOMEMLIMIT int
	}
	ask("/api/v1/status/runtimeinfo", 200, &info)
	if time.Since(info.StartTime) > time.Hour || info.LastConfigTime.Before(info.StartTime) || !info.ReloadConfigSuccess || info.StorageRetention != "90d" ||
		info.GoroutineCount < 1 || info.GOMAXPROCS < 1 || info.GOMEMLIMIT < 1 || info.Hostname == "" || info.CWD == "" {
		t.Errorf("runtime info: %+v", info)
	}
	var found map[string]json.RawMessage
	ask("/api/v1/status/runtimeinfo", 200, &found)
	for _, name := range []string{"startTime", "CWD", "hostname", "serverTime", "reloadConfigSuccess", "lastConfigTime", "corruptionCount", "goroutineCount",
		"GOMAXPROCS", "GOMEMLIMIT", "GOGC", "GODEBUG", "storageRetention"} {
		if found[name] == nil {
			t.Errorf("runtime info lacks %s", name)
		}
	}
}
