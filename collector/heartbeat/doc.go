// Package heartbeat owns the things that must report in time: another collector, cron jobs, customers' backups. It keeps the
// time of each one's last ping and how long it may stay away, in the state database, and says which are overdue.
//
// It does not page: the collector's rules do that by bramble_heartbeat_overdue. Time during which the collector itself was
// away does not count.
package heartbeat
