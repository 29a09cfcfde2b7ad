package main

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/collector/config"
	"bramble/storage"
)

// When a store is opened that could not be opened at the start, or was not to be.
const (
	// lateAfter leaves time for the pages of what happened meanwhile: opening the store may end the process once more.
	lateAfter = 3 * time.Second
	// lateAfterTwice is after the second crash of the engine within an hour.
	lateAfterTwice = 10 * time.Minute
	// lateSoon is how soon opening it is tried again where it fails, twice as long each time up to lateEvery.
	lateSoon  = time.Second
	lateEvery = time.Minute
)

// lateStart is how a start goes on without its store: boards are acknowledged, the journal keeps their readings, pages
// leave. The zero value opens the store at once.
type lateStart struct {
	after   time.Duration
	why     error // why it is not open; nil once it is
	examine bool  // read the stores as a whole first: the engine may have met damage
	damaged bool  // a part of it is: it is not opened
}

// startStores opens the stores at once, unless their engine has ended the last run. Damage ends the start, any other
// failure does not.
func (a *app) startStores(ctx context.Context) error {
	a.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "bramble_store_open", Help: "1 while the store in the data directory is open; without it the journal keeps what boards send.",
	}, func() float64 {
		if a.embedded.IsOpen() {
			return 1
		}
		return 0
	}))
	if a.late.why != nil {
		a.log.Error("the store is not opened yet: the journal keeps readings, and pages go on", "dir", a.embedded.Dir(), "after", a.late.after, "err", a.late.why)
		return nil
	}
	err := a.tryStores(ctx)
	if err == nil || errors.Is(err, storage.ErrDamaged) {
		return err
	}
	a.late = lateStart{after: lateSoon, why: err}
	a.log.Error("the store cannot be opened: the journal keeps readings, pages go on, and it is tried again", "err", err)
	return nil
}

// tryStores opens the rollups, then the raw readings: for as long as something in them is not rolled up, those are kept
// beyond their retention.
func (a *app) tryStores(ctx context.Context) error {
	if !a.rolled.IsOpen() {
		if err := a.rolled.Start(0); err != nil {
			return err
		}
	}
	retention, err := storage.RetentionFor(ctx, a.embedded.Dir(), a.rolled, time.Duration(a.config.Retention))
	if err != nil {
		return err
	}
	if retention != time.Duration(a.config.Retention) {
		a.log.Info("readings that are not rolled up yet are kept for longer than configured, until the next start after that", "configured", a.config.Retention, "kept", retention)
	}
	return a.embedded.Start(retention)
}

// openLate opens the stores when it is time, however often that takes. Damage it says once, with the way back, and
// leaves them shut: pages are worth more than graphs. It returns when the stores are open or ctx ends.
func (a *app) openLate(ctx context.Context) {
	next := lateSoon
	for wait := a.late.after; ; wait, next = next, min(2*next, lateEvery) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		err := a.openNow(ctx)
		switch {
		case err == nil:
			a.log.Info("the store is open: it takes what the journal has kept")
			return
		case ctx.Err() != nil:
			return
		case errors.Is(err, storage.ErrDamaged):
			a.late.damaged = true
			a.log.Error("the store stays shut until it is restored: the journal keeps readings, and pages go on", "err", config.OneLine(explainDamage(ctx, a.config, err)))
			<-ctx.Done()
			return
		}
		a.log.Error("the store cannot be opened yet", "err", err, "again_in", next)
	}
}

func (a *app) openNow(ctx context.Context) error {
	if a.late.examine {
		if err := a.examine(ctx); err != nil {
			return err
		}
		a.late.examine = false
		a.log.Info("no file of the store is damaged")
	}
	if err := a.tryStores(ctx); err != nil {
		return err
	}
	return a.rollups.Resume(ctx)
}
