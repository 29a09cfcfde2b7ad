package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bramble/collector/journal"
)

// holdRetry is the pause between two looks at a truncation of the journal that is on its way; it takes 0.3 s at most.
const holdRetry = 20 * time.Millisecond

// Hold waits until the store has every reading that was acknowledged before the call, and keeps the journal from being
// cut and truncated until release is called: readings acknowledged meanwhile are in the journal's files. It fails when
// ctx ends first, as on a full disk. Meanwhile readings are still taken and acknowledged.
func (in *Ingest) Hold(ctx context.Context) (release func(), err error) {
	if err := in.pin(ctx); err != nil {
		return nil, fmt.Errorf("hold the journal: %w", err)
	}
	release = func() { in.holds.Add(-1) }
	if err := in.settle(ctx); err != nil {
		release()
		return nil, fmt.Errorf("wait for the store to have what is acknowledged: %w", err)
	}
	return release, nil
}

// pin forbids further cuts, once the one that is on its way has ended.
func (in *Ingest) pin(ctx context.Context) error {
	for {
		pinned := false
		if err := in.Do(ctx, func() {
			if pinned = !in.cutting; pinned {
				in.holds.Add(1)
			}
		}); err != nil || pinned {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(holdRetry):
		}
	}
}

// settle returns when all that is committed by now has been fed to the store.
func (in *Ingest) settle(ctx context.Context) error {
	settled := make(chan struct{})
	if err := in.journal.After(func(end journal.Position) {
		in.feeder.when(end, func() { close(settled) })
	}); err != nil {
		return err
	}
	select {
	case <-settled:
		return nil
	case <-in.stopping:
		return errors.New("the collector stops")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// CaughtUp returns once the store has all readings that were passed to Live before the call, so that a page which
// follows the live readings and then asks for those of before misses none. It does not wait for a journal or a store
// that takes nothing, nor beyond ctx.
func (in *Ingest) CaughtUp(ctx context.Context) {
	if in.journal.Failing() != nil {
		return
	}
	reached := in.feeder.upTo(in.shown.Load())
	if reached == nil {
		return
	}
	select {
	case <-reached:
	case <-in.stopping:
	case <-ctx.Done():
	}
}
