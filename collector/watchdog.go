package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"bramble/alerting"
)

// WatchdogConfig says where the collector shows that its alerting works.
type WatchdogConfig struct {
	URL       string        // takes a POST for each beat; "" for none
	TokenFile string        `file:"secret"` // holds a token for it; "" for none
	Every     time.Duration // between beats
}

// readWatchdog takes over the `watchdog` block.
func (c *Config) readWatchdog(n *yaml.Node) error {
	w := &c.Watchdog
	w.Every = time.Minute
	return eachKey(n, map[string]func(*yaml.Node) error{
		"url":        func(n *yaml.Node) error { return n.Decode(&w.URL) },
		"token_file": func(n *yaml.Node) error { return n.Decode(&w.TokenFile) },
		"every": func(n *yaml.Node) error {
			d, err := model.ParseDuration(n.Value)
			w.Every = time.Duration(d)
			return err
		},
	})
}

func checkWatchdog(w WatchdogConfig) error {
	if w == (WatchdogConfig{}) {
		return nil
	}
	u, err := url.Parse(w.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("url: want a URL that takes a POST, such as https://other.example.org/api/heartbeats/east")
	case w.Every < 10*time.Second || w.Every > time.Hour:
		return fmt.Errorf("every: %s is not between 10s and 1h", w.Every)
	}
	if err := checkFile(w.TokenFile); err != nil {
		return fmt.Errorf("token_file: %w", err)
	}
	return nil
}

// watchdogOptions are what the pager needs to send beats, nil where none are configured.
func (a *app) watchdogOptions() (*alerting.WatchdogOptions, error) {
	w := a.config.Watchdog
	if w.URL == "" {
		return nil, nil
	}
	o := &alerting.WatchdogOptions{URL: w.URL, Every: w.Every, Audits: a.audits()}
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
	tick := time.NewTicker(a.config.Watchdog.Every)
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
