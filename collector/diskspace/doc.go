// Package diskspace takes space of a disk for a file that will need it, so that nobody else can. Its callers decide how
// much is kept, and for which purpose.
package diskspace
