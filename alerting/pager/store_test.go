package pager

import "go.uber.org/goleak"

// storeGoroutines are those that the store's engine starts once a process and never ends.
func storeGoroutines() []goleak.Option {
	const engine = "github.com/VictoriaMetrics/VictoriaMetrics/lib/"
	return []goleak.Option{
		goleak.IgnoreAnyFunction(engine + "logger.logLimiterCleaner"),
		goleak.IgnoreAnyFunction(engine + "workingsetcache.(*Cache).expirationWatcher"),
		goleak.IgnoreAnyFunction(engine + "workingsetcache.(*Cache).prevCacheWatcher"),
		goleak.IgnoreAnyFunction(engine + "workingsetcache.(*Cache).cacheSizeWatcher"),
	}
}
