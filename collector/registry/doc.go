// Package registry owns the identities that may speak to the collector: boards with their keys and
// labels, enrolment tokens, API tokens, users and their sessions, and the audit table of changes.
// It keeps all of it in SQLite and mirrors it in memory, so that a lookup never waits for the disk.
//
// It owns no connection and no network: the caller that changes a key notifies the broker. Secrets
// are never stored, only their hashes.
package registry
