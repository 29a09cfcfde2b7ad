package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"bramble/collector/config"
	"bramble/collector/ingest"
	"bramble/dashboards"
	"bramble/storage"
)

// Names of the stores in the data directory.
const (
	seriesDir  = "series"
	rollupsDir = "rollups"
)

// differences are rolled up beside the readings: what a board has lost of its
// clock at an instant.
var differences = []storage.Difference{
	{Metric: "pi_cpu_clock_hertz", Label: "source", Of: "requested", Less: "measured", As: "pi_cpu_clock_lost_hertz"},
}

// openEmbedded opens the rollups and the raw readings, or leaves that for later (lateStart).
func (a *app) openEmbedded(ctx context.Context) (err error) {
	c := a.config
	if a.rolled, err = storage.Prepare(filepath.Join(c.DataDir, rollupsDir), storage.Options{
		Retention: time.Duration(c.RollupRetention), SeldomWritten: true, MemoryBytes: int64(c.Memory), Log: a.log, FreeFiles: a.files.Free,
	}); err != nil {
		return err
	}
	a.defers("rollups", a.rolled.Close)
	if a.embedded, err = storage.Prepare(filepath.Join(c.DataDir, seriesDir), storage.Options{
		Retention: time.Duration(c.Retention), MemoryBytes: int64(c.Memory), Log: a.log, Registerer: a.metrics, FreeFiles: a.files.Free,
	}); err != nil {
		return err
	}
	a.store = a.embedded
	a.defers("store", a.store.Close)
	if err := a.startStores(ctx); err != nil {
		return err
	}
	a.rollups, err = storage.NewRollups(ctx, storage.RollupOptions{
		Raw: a.embedded, Rolled: a.rolled, Late: ingest.Late, Differences: differences, Settle: a.settle, Log: a.log, Registerer: a.metrics,
	})
	return err
}

// openToCopy opens both stores for a backup while no collector runs. The rollups
// are nil where an older collector has made none.
func openToCopy(c config.Config, log *slog.Logger) (raw, rolled *storage.Store, err error) {
	// The longest retention, so that opening drops nothing.
	o := storage.Options{Retention: config.MaxRetention, MemoryBytes: int64(c.Memory), Log: log}
	if raw, err = storage.Open(filepath.Join(c.DataDir, seriesDir), o); err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(c.DataDir, rollupsDir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return raw, nil, nil
	}
	if rolled, err = storage.Open(dir, o); err != nil {
		return nil, nil, errors.Join(err, raw.Close())
	}
	return raw, rolled, nil
}

// closeCopied closes what openToCopy has opened.
func closeCopied(raw, rolled *storage.Store) error {
	if rolled == nil {
		return raw.Close()
	}
	return errors.Join(rolled.Close(), raw.Close())
}

// settle returns when the store has every reading that was accepted before.
func (a *app) settle(ctx context.Context) error {
	release, err := a.ingest.Hold(ctx)
	if err != nil {
		return err
	}
	release()
	return nil
}

// rollupsHandler answers queries of the rollups; nil where there are none.
func (a *app) rollupsHandler() http.Handler {
	if a.rolled == nil {
		return nil
	}
	return a.rolled.Handler()
}

// historyPart answers questions about a long time.
type historyPart struct {
	store           seriesStore
	rollups         *storage.Rollups // nil with a remote store
	ingest          *ingest.Ingest
	retention, kept time.Duration // of readings and rollups
}

// History returns a metric of a board, step by step.
func (h *historyPart) History(ctx context.Context, q dashboards.HistoryQuery) ([]dashboards.Span, error) {
	spans, err := h.spans(ctx, storage.HistoryQuery{
		Metric: q.Metric, Match: []storage.Label{{Name: "board", Value: q.Board}}, By: q.By, Start: q.Start, End: q.End, Step: q.Step,
	})
	if errors.Is(err, storage.ErrHistoryQuery) {
		return nil, fmt.Errorf("%w: %w", dashboards.ErrBadHistory, err)
	}
	return spanViews(spans), err
}

func spanViews(spans []storage.Span) []dashboards.Span {
	all := make([]dashboards.Span, len(spans))
	for i, s := range spans {
		all[i] = dashboards.Span{Labels: map[string]string{}, At: s.At, Min: s.Min, Max: s.Max, Mean: s.Mean, Count: s.Count}
		for _, l := range s.Labels {
			all[i].Labels[l.Name] = l.Value
		}
	}
	return all
}

func (h *historyPart) spans(ctx context.Context, q storage.HistoryQuery) ([]storage.Span, error) {
	h.caughtUp(ctx)
	if h.rollups == nil {
		return storage.QueryHistory(ctx, h.store, differences, q)
	}
	return h.rollups.History(ctx, q)
}

// Rollups is the material of histories.
func (h *historyPart) Rollups() dashboards.Rollups {
	if h.rollups == nil { // how long a remote store keeps readings is not known here
		return dashboards.Rollups{BucketSeconds: int64(storage.Bucket.Seconds()), RawSeconds: int64(config.MaxRetention.Seconds())}
	}
	r := dashboards.Rollups{BucketSeconds: int64(storage.Bucket.Seconds()), RawSeconds: int64(h.retention.Seconds()), KeptSeconds: int64(h.kept.Seconds())}
	if until := h.rollups.Until(); !until.IsZero() {
		r.Until = until.UnixMilli()
	}
	return r
}
