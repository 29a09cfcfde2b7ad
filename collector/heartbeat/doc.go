// Package heartbeat owns what must be heard of in time: another collector, cron jobs, customers' backups. It keeps when each
// was last heard and how long it may stay away, in the state database, and says which are overdue.
//
// It refuses to page: the collector's rules do that by bramble_heartbeat_overdue. Time during which the collector itself
// was away does not count.
package heartbeat
