// Package digest owns the daily mail on how the collector fared: when it is due, what it says, and the journal that keeps a
// day's from being lost or written twice. It refuses to know where its facts come from and how mail is sent.
package digest
