package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting/alert"
	"bramble/alerting/maintenance"
	"bramble/alerting/pager"
)

// whatIsOff lists the alerts that can page nobody now.
func (a *app) whatIsOff() alert.OffReport {
	return alert.WhatIsOff(time.Now(), len(a.fleet.of(a.registry)), a.pager.Off()...)
}

var (
	offBoards = prometheus.NewDesc("bramble_alerts_off_boards", "Boards with alerts that can page nobody now.", nil, nil)
	offRules  = prometheus.NewDesc("bramble_alerts_off_rules", "Rules that can page nobody now on any board.", nil, nil)
	offAll    = prometheus.NewDesc("bramble_alerts_off_everything", "1 where no alert at all can page somebody now.", nil, nil)
	offItems  = prometheus.NewDesc("bramble_alerts_off", "Reasons why alerts can page nobody now.", []string{"kind"}, nil)
)

// offMetrics shows what is off as metrics, and through them as series.
type offMetrics struct{ report func() alert.OffReport }

// Describe implements prometheus.Collector.
func (m offMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{offBoards, offRules, offAll, offItems} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m offMetrics) Collect(ch chan<- prometheus.Metric) {
	r := m.report()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	gauge(offBoards, r.Boards)
	gauge(offRules, r.Rules)
	everything := 0
	if r.Everything {
		everything = 1
	}
	gauge(offAll, everything)
	kinds := map[string]int{alert.OffSilence: 0, alert.OffMaintenance: 0, alert.OffReceiver: 0}
	for _, o := range r.Items {
		kinds[o.Kind]++
	}
	for kind, n := range kinds {
		gauge(offItems, n, kind)
	}
}

// maintenancePart is the announced work.
type maintenancePart struct{ pager *pager.Pager }

// List returns it.
func (m *maintenancePart) List(ctx context.Context) ([]maintenance.Maintenance, error) {
	return m.pager.Maintenances().List(ctx)
}

// Start begins or plans some.
func (m *maintenancePart) Start(ctx context.Context, q maintenance.Request) (maintenance.Maintenance, error) {
	return m.pager.Maintenances().Start(ctx, q)
}

// End ends some.
func (m *maintenancePart) End(ctx context.Context, number int64, who string) (maintenance.Maintenance, error) {
	return m.pager.Maintenances().End(ctx, number, who)
}
