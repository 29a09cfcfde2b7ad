package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting"
)

// missedFor is how late a scheduled test page is still sent after a downtime.
const missedFor = time.Hour

// testPage sends one.
func (a *app) testPage(ctx context.Context, receiver, by string, scheduled time.Time) (alerting.PageTest, error) {
	t, err := a.pager.StartTest(ctx, receiver, by, scheduled)
	if err != nil {
		return t, err
	}
	return t, a.ingest.Commit(a.engine.Test(t.Number, t.Receiver, true, time.UnixMilli(t.At)))
}

// followTests sends test pages that are due and ends those that have arrived or failed, until ctx ends.
func (a *app) followTests(ctx context.Context) error {
	if err := a.resumeTests(ctx); err != nil && ctx.Err() == nil { // a stop may come right behind the start
		return err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			err := a.stepTests(ctx, now)
			if (err != nil) != failing && ctx.Err() == nil {
				failing = err != nil
				a.log.Warn("test pages", "failing", failing, "err", err)
			}
		}
	}
}

// resumeTests begins the alerts of test pages that are on record and were not journalled when an earlier collector ended.
// Those that fire already are not told again.
func (a *app) resumeTests(ctx context.Context) error {
	tests, err := a.pager.Tests(ctx)
	if err != nil {
		return err
	}
	for _, t := range tests {
		if t.State != "waiting" {
			continue
		}
		if err := a.ingest.Commit(a.engine.Test(t.Number, t.Receiver, true, time.Now())); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) stepTests(ctx context.Context, now time.Time) error {
	decided, err := a.pager.DecideTests(ctx, now)
	for _, t := range decided {
		if err := a.ingest.Commit(a.engine.Test(t.Number, t.Receiver, false, now)); err != nil {
			return err
		}
	}
	if len(decided) > 0 {
		a.tested()
	}
	at := a.config.TestPage.Schedule()
	if err != nil || !at.Set() {
		return err
	}
	due := at.Last(now)
	if now.Sub(due) > missedFor {
		return nil
	}
	last, err := a.pager.LastScheduledTest(ctx)
	if err != nil || !last.Before(due) {
		return err
	}
	_, err = a.testPage(ctx, a.config.TestPage.Receiver, "schedule", due)
	return err
}

// tested makes the rules hear of a test's result at once.
func (a *app) tested() {
	if err := a.putOwn(time.Now()); err != nil {
		a.log.Warn("put the result of a test page", "err", err)
	}
}

var testFailed = prometheus.NewDesc("bramble_test_page_failed", "1 where the last test page to a receiver failed.", []string{"test_receiver"}, nil)

// testMetrics shows the results of test pages as metrics, and through them as series.
type testMetrics struct {
	failed func(context.Context) (map[string]bool, error)
}

// Describe implements prometheus.Collector.
func (m testMetrics) Describe(ch chan<- *prometheus.Desc) { ch <- testFailed }

// Collect implements prometheus.Collector.
func (m testMetrics) Collect(ch chan<- prometheus.Metric) {
	results, err := m.failed(context.Background())
	if err != nil {
		ch <- prometheus.NewInvalidMetric(testFailed, err)
		return
	}
	for receiver, failed := range results {
		v := 0.0
		if failed {
			v = 1
		}
		ch <- prometheus.MustNewConstMetric(testFailed, prometheus.GaugeValue, v, receiver)
	}
}
