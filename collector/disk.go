package main

import (
	"context"
	"time"
)

// keepStateEvery is how often the log of the state database is brought into it, and its reserve of disk space made whole.
const keepStateEvery = 10 * time.Second

// keepState keeps the log of the state database short, and disk space for both, until ctx ends. It says when it cannot
// and when it can again.
func (a *app) keepState(ctx context.Context) error {
	tick := time.NewTicker(keepStateEvery)
	defer tick.Stop()
	logFails, reserveFails := false, false
	for {
		err := a.reserve.Checkpoint(ctx)
		if failing := err != nil && ctx.Err() == nil; failing != logFails {
			logFails = failing
			a.log.Warn("the log of the state database is brought into it", "failing", failing, "err", err)
		}
		err = a.reserve.Keep()
		if failing := err != nil; failing != reserveFails {
			reserveFails = failing
			a.log.Warn("disk space for the state database is reserved", "failing", failing, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
