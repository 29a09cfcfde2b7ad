package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bramble/alerting"
	"bramble/collector/heartbeat"
	"bramble/dashboards"
)

// watcher hands the pages heartbeats, beats and test pages.
func (a *app) watcher() *dashboards.Watcher {
	return &dashboards.Watcher{
		List: a.listHeartbeats, Beat: a.takeBeat, Beats: a.beats,
		Remove: func(ctx context.Context, name string) error {
			err := a.heartbeats.Remove(ctx, name)
			if errors.Is(err, heartbeat.ErrUnknown) {
				return dashboards.ErrUnknownHeartbeat
			}
			return err
		},
		Tests: func(ctx context.Context) ([]alerting.PageTest, error) { return a.pager.Tests(ctx) },
		Test: func(ctx context.Context, receiver, who string) (alerting.PageTest, error) {
			return a.testPage(ctx, receiver, who, time.Time{})
		},
	}
}

func (a *app) listHeartbeats() []dashboards.Heartbeat {
	list := []dashboards.Heartbeat{}
	for _, h := range a.heartbeats.List() {
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

func (a *app) takeBeat(ctx context.Context, name string, b dashboards.Beat) (dashboards.Heartbeat, error) {
	h, err := a.heartbeats.Ping(ctx, name, heartbeat.Ping{Within: b.Within, Board: b.Board, Message: b.Message, By: b.By})
	if errors.Is(err, heartbeat.ErrBad) {
		return dashboards.Heartbeat{}, fmt.Errorf("%w: %w", dashboards.ErrBadHeartbeat, err)
	}
	return heartbeatView(h), err
}

// beats says how the watchdog's beats fare.
func (a *app) beats() *dashboards.Beats {
	s, ok := a.pager.Watchdog()
	if !ok {
		return nil
	}
	b := &dashboards.Beats{EverySeconds: int64(s.Every.Seconds())}
	if !s.Sent.IsZero() {
		b.SentAt = s.Sent.UnixMilli()
	}
	if !s.Tried.IsZero() {
		b.TriedAt = s.Tried.UnixMilli()
	}
	if s.Err != nil {
		b.Error = s.Err.Error()
	}
	return b
}

// isBoard reports whether a board is registered and in service.
func (a *app) isBoard(name string) bool {
	b, ok := a.registry.Board(name)
	return ok && !b.Retired
}
