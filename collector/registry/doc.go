// Package registry owns who may speak to the collector: boards with their keys
// and labels, enrolment tokens, API tokens, users and their sessions, and the
// record of who changed what. It keeps all of it in SQLite and mirrors it in
// memory, so that a lookup never waits for the disk.
//
// It owns no connection and no network: whoever changes a key tells the broker.
// Secrets are never stored, only their hashes.
package registry
