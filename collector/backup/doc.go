// Package backup makes backups of a collector and proves that they restore.
//
// A backup is one folder in the target directory, named after its time:
//
//	NAME/manifest.json   every other file with size and SHA-256; written last, by an atomic rename
//	NAME/series/         a snapshot of the store
//	NAME/rollups/        one of the rollups' store
//	NAME/state.db        a consistent copy of the state database, without open logins and keys
//	NAME/journal/        records of the same instant that are not yet in the series: alert states, taken ticks
//	NAME/rules/          rule files
//	NAME/secrets.age     the collector's CA, the state's keys, and all files that the configuration names, encrypted with age
//
// A folder without a manifest is no backup, and an unfinished one has a name that begins with a dot. A backup counts
// as good only after a child process has restored it into a scratch folder, opened it, and found the counts of the
// snapshot; the manifest then says so. Everything streams: memory does not grow with the size of the store.
//
// It refuses to restore over existing files, to delete the last good backup, and to call a backup good that it has not
// restored. It never writes a secret in the clear onto a target's disk, nor as root anywhere that nobody has named.
package backup
