package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"bramble/alerting"
)

// watchdogOptions are what the pager needs to send beats, nil where none are configured.
func (a *app) watchdogOptions() (*alerting.WatchdogOptions, error) {
	w := a.config.Watchdog
	if w.URL == "" {
		return nil, nil
	}
	o := &alerting.WatchdogOptions{URL: w.URL, Every: time.Duration(w.Every), Audits: a.audits()}
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
func (a *app) audits() []alerting.Audit {
	return []alerting.Audit{
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
