package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"bramble/collector/config"
	"bramble/storage"
	"bramble/storage/importer"
	"bramble/storage/remote"
	"bramble/storage/series"
)

// seriesStore is the store that is configured: *storage.Store in the data
// directory, or *remote.Store by URL.
type seriesStore interface {
	Add(rows []storage.Row) error
	Record(samples []series.Sample) error
	Barrier() error
	Query(ctx context.Context, expr string, at time.Time) ([]storage.Result, error)
	storage.RangeQuerier
	Handler() http.Handler
	Close() error
}

// queueDir is where rows wait for a remote store, in the data directory.
const queueDir = "queue"

// openStores opens the store that is configured. Rollups are made of an embedded
// one only: a remote one keeps what it is told to keep.
func (a *app) openStores(ctx context.Context) error {
	if a.config.Store.Write == "" {
		return a.openEmbedded(ctx)
	}
	o := a.config.Store.Options()
	o.Dir, o.Log, o.Registerer = filepath.Join(a.config.DataDir, queueDir), a.log, a.metrics
	remote, err := remote.Open(o)
	if err != nil {
		return err
	}
	a.store = remote
	a.defers("store", a.store.Close)
	a.log.Info("series are in a remote store", "write", a.config.Store.Write)
	return nil
}

// keepStores guards the embedded store's disk and rolls its readings up until ctx
// ends. A remote one looks after itself.
func (a *app) keepStores(ctx context.Context) error {
	if a.embedded == nil {
		return nil
	}
	if !a.embedded.IsOpen() {
		a.openLate(ctx)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.embedded.Guard(ctx) })
	g.Go(func() error { return a.rollups.Run(ctx) })
	return g.Wait()
}

// openImporter makes what takes other exporters' rows. What a remote store
// keeps is its own affair.
func openImporter(c config.Config, store seriesStore, log *slog.Logger, r prometheus.Registerer) (*importer.Importer, error) {
	o := importer.Options{Store: store, Retention: time.Duration(c.Retention), Log: log, Registerer: r}
	if c.Store.Write != "" {
		o.Retention = 0
	}
	return importer.New(o)
}

// storeDrops is how old a row is that the store drops in silence; 0 where that is not known here, or older than any
// reading may be.
func (a *app) storeDrops() time.Duration {
	if a.embedded == nil {
		return 0
	}
	return time.Duration(a.config.Retention)
}

// readOnly reports whether the collector's own store takes nothing, for want of room on its disk.
func (a *app) readOnly() bool { return a.embedded != nil && a.embedded.ReadOnly() }

// storeErr returns why readings do not reach the store at present, or nil.
func (a *app) storeErr() error {
	if a.embedded != nil && !a.embedded.IsOpen() {
		return storage.ErrNotOpen
	}
	r, ok := a.store.(*remote.Store)
	if !ok || r.Err() == nil {
		return nil
	}
	return fmt.Errorf("remote store: %w", r.Err())
}
