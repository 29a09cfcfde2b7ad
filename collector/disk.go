package main

import (
	"context"
	"time"
)

// reserveEvery is how often the state database's reserve of disk space is made whole.
const reserveEvery = 10 * time.Second

// keepReserve keeps disk space for the state database until ctx ends, and says
// when it cannot and when it can again.
func (a *app) keepReserve(ctx context.Context) error {
	tick := time.NewTicker(reserveEvery)
	defer tick.Stop()
	failing := false
	for {
		err := a.reserve.Keep()
		if (err != nil) != failing {
			failing = err != nil
			a.log.Warn("disk space for the state database is reserved", "failing", failing, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
