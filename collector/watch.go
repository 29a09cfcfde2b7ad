package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting/alert"
	"bramble/alerting/pager"
	"bramble/collector/heartbeat"
	"bramble/dashboards"
)

// heartbeatPart is the things that must report in time, the collector's own watchdog among them.
type heartbeatPart struct {
	store *heartbeat.Store
	pager *pager.Pager
}

// Remove forgets one.
func (b *heartbeatPart) Remove(ctx context.Context, name string) error {
	err := b.store.Remove(ctx, name)
	if errors.Is(err, heartbeat.ErrUnknown) {
		return dashboards.ErrUnknownHeartbeat
	}
	return err
}

// List returns them.
func (b *heartbeatPart) List() []dashboards.Heartbeat {
	list := []dashboards.Heartbeat{}
	for _, h := range b.store.List() {
		list = append(list, heartbeatView(h))
	}
	return list
}

func heartbeatView(h heartbeat.Heartbeat) dashboards.Heartbeat {
	return dashboards.Heartbeat{
		Name: h.Name, Board: h.Board, Message: h.Message, By: h.By, WithinSeconds: h.WithinSeconds, CreatedAt: h.CreatedAt, LastAt: h.LastAt,
		Deadline: h.Deadline, Overdue: h.Overdue,
	}
}

// Beat takes a sign of life.
func (b *heartbeatPart) Beat(ctx context.Context, name string, beat dashboards.Beat) (dashboards.Heartbeat, error) {
	h, err := b.store.Ping(ctx, name, heartbeat.Ping{Within: beat.Within, Board: beat.Board, Message: beat.Message, By: beat.By})
	if errors.Is(err, heartbeat.ErrBad) {
		return dashboards.Heartbeat{}, fmt.Errorf("%w: %w", dashboards.ErrBadHeartbeat, err)
	}
	return heartbeatView(h), err
}

// Beats is the state of the watchdog's.
func (b *heartbeatPart) Beats() *dashboards.Beats {
	status, ok := b.pager.Watchdog()
	if !ok {
		return nil
	}
	v := &dashboards.Beats{EverySeconds: int64(status.Every.Seconds())}
	if !status.Sent.IsZero() {
		v.SentAt = status.Sent.UnixMilli()
	}
	if !status.Tried.IsZero() {
		v.TriedAt = status.Tried.UnixMilli()
	}
	if status.Err != nil {
		v.Error = status.Err.Error()
	}
	return v
}

// isBoard reports whether a board is registered and in service.
func (a *app) isBoard(name string) bool {
	b, ok := a.registry.Board(name)
	return ok && !b.Retired
}

// watchdogOptions are the pager's settings for heartbeats, nil where none are configured.
func (a *app) watchdogOptions() (*pager.WatchdogOptions, error) {
	w := a.config.Watchdog
	if w.URL == "" {
		return nil, nil
	}
	o := &pager.WatchdogOptions{URL: w.URL, Every: time.Duration(w.Every), Audits: a.audits()}
	if w.TokenFile != "" {
		b, err := os.ReadFile(w.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("read the watchdog's token: %w", err)
		}
		if o.Token = strings.TrimSpace(string(b)); o.Token == "" {
			return nil, fmt.Errorf("read the watchdog's token: %s is empty", w.TokenFile)
		}
	}
	return o, nil
}

// audits must all pass for a beat to leave, beside the pager's own.
func (a *app) audits() []pager.Audit {
	return []pager.Audit{
		func(time.Time) error {
			if err := a.ingest.Err(); err != nil {
				return fmt.Errorf("nothing can be acknowledged: %w", err)
			}
			return nil
		},
		func(time.Time) error {
			if a.readOnly() {
				return errors.New("the store takes no rows: its disk is full")
			}
			return nil
		},
	}
}

// beat gives the watchdog's rule its readings until ctx ends.
func (a *app) beat(ctx context.Context) error {
	if a.config.Watchdog.URL == "" {
		return nil
	}
	tick := time.NewTicker(time.Duration(a.config.Watchdog.Every))
	defer tick.Stop()
	for now := time.Now(); ; {
		if err := a.ingest.Commit(a.engine.Beat(now)); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case now = <-tick.C:
		}
	}
}

// missedFor is how late a scheduled test page is still sent after a downtime.
const missedFor = time.Hour

// testPage sends one.
func (a *app) testPage(ctx context.Context, receiver, by string, scheduled time.Time) (alert.PageTest, error) {
	t, err := a.pager.Tests().Start(ctx, receiver, by, scheduled)
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
	tests, err := a.pager.Tests().List(ctx)
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
	decided, err := a.pager.Tests().Decide(ctx, now)
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
	last, err := a.pager.Tests().LastScheduled(ctx)
	if err != nil || !last.Before(due) {
		return err
	}
	_, err = a.testPage(ctx, a.config.TestPage.Receiver, "schedule", due)
	return err
}

// tested makes the rules hear of a test's result at once.
func (a *app) tested() {
	if err := (ownMetrics{a}).putOwn(time.Now()); err != nil {
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
