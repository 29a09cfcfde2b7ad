package sensor

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// probeTime is how long the collector's server may take to answer a ping that
// was sent because acknowledgements are missing.
const probeTime = 8 * time.Second

// Probe asks the server for a sign of life. A host that vanished without
// closing the connection gives none: the connection is then made anew, since
// the kernel alone would hold on to it for a quarter of an hour.
func (l *natsLink) Probe() {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn == nil || !l.up.Load() || !l.probing.CompareAndSwap(false, true) {
		return
	}
	l.work.Go(func() {
		defer l.probing.Store(false)
		ctx, cancel := context.WithTimeout(l.stop, probeTime)
		defer cancel()
		if err := conn.FlushWithContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
			return // it answers, or it is gone and known to be
		}
		l.report(fmt.Errorf("no sign of life from the server in %v", probeTime))
		if err := conn.ForceReconnect(); err != nil {
			l.log.Debug("reconnect", "err", err)
		}
	})
}
