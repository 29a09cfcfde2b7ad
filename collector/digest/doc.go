// Package digest owns the daily mail about the collector's day: when it is due, its text, and the journal that keeps a
// day's mail from being lost or written twice. It does not know where its facts come from and how mail is sent.
package digest
