package main

import (
	"context"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"

	"bramble/alerting/rules"
	"bramble/storage"
)

const (
	// ownEvery is how often the collector's own series are stored and decided on.
	ownEvery = 15 * time.Second
	// ownOrigin keeps their clock apart from that of any board's readings.
	ownOrigin = "collector/own"
)

// isOwn picks the gauges and counters of /metrics that rules and queries see.
func isOwn(name string) bool {
	switch name {
	case "bramble_storage_read_only", "bramble_storage_disk_free_bytes", "bramble_ingest_paused",
		"bramble_readings_rejected_total", "bramble_reports_rejected_total", "bramble_rollup_behind_seconds",
		"bramble_remote_up", "bramble_rules_failing", "bramble_rules_broken",
		"bramble_receiver_failing", "bramble_test_page_failed",
		"bramble_store_open", "bramble_broker_refused_connections_total",
		"bramble_broker_panics_total", "bramble_ingest_panics_total", "bramble_http_panics_total", "bramble_alerting_panics_total":
		return true
	}
	return strings.HasPrefix(name, "bramble_backup") || strings.HasPrefix(name, "bramble_alerts_off") || strings.HasPrefix(name, "bramble_heartbeat_")
}

func valueOf(m *dto.Metric) float64 {
	if m.Counter != nil {
		return m.Counter.GetValue()
	}
	return m.GetGauge().GetValue()
}

// ownMetrics are the collector's metrics as series of their own.
type ownMetrics struct{ app *app }

// storeOwn puts the metrics of the collector's own that rules ask for before the
// rules and into the store, until ctx ends. They are not journalled: the next
// ones say the same.
func (o ownMetrics) storeOwn(ctx context.Context) error {
	tick := time.NewTicker(ownEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-o.app.backups.Changed():
		}
		if err := o.putOwn(time.Now()); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func (o ownMetrics) putOwn(now time.Time) error {
	families, err := o.app.metrics.Gather()
	if err != nil {
		return err
	}
	at := now.UnixMilli()
	var rows []storage.Row
	var readings []rules.Reading
	for _, f := range families {
		if !isOwn(f.GetName()) {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := ownLabels(f.GetName(), m)
			rows = append(rows, storage.Row{Series: storage.SeriesOf(labels), At: at, Value: valueOf(m)})
			readings = append(readings, rules.Reading{Series: o.app.engine.Series(labels, o.boardLabels(labels, at)), Value: valueOf(m)})
		}
	}
	// Rules come first: they hear of a failed backup also where the disk is full.
	if err := o.app.ingest.Commit(o.app.engine.Observe(ownOrigin, at, readings)); err != nil {
		return err
	}
	// A store that takes nothing is the matter of ingest, which says so.
	_ = o.app.store.Add(rows)
	return nil
}

// boardLabels are the registry's of the board that a series of the collector's own is about, none for most.
func (o ownMetrics) boardLabels(labels []storage.Label, at int64) (out []storage.Label) {
	for _, l := range labels {
		if l.Name != "board" {
			continue
		}
		if b, ok := o.app.registry.Board(l.Value); ok {
			for _, r := range b.At(at) {
				out = append(out, storage.Label{Name: r.Name, Value: r.Value})
			}
		}
	}
	return out
}

func ownLabels(name string, m *dto.Metric) []storage.Label {
	labels := []storage.Label{{Name: "__name__", Value: name}}
	for _, l := range m.GetLabel() {
		if l.GetValue() != "" { // as good as none
			labels = append(labels, storage.Label{Name: l.GetName(), Value: l.GetValue()})
		}
	}
	return labels
}
