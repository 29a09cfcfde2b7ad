// Package stdlog keeps libraries from writing to standard error while they are
// initialised: VictoriaMetrics' metrics package logs "disable exposing PSI
// metrics" there on each kernel without pressure stall information, such as a
// Pi's, and every command of the collector would begin with it.
//
// Go initialises packages in the order of their import paths as soon as their
// imports are ready (go.dev/ref/spec#Package_initialization, Go 1.21 and
// later), and this one needs no more than that library does and sorts before
// it. A test of the collector holds the order.
package stdlog

import (
	"bytes"
	"log"
	"os"
)

func init() { log.SetOutput(filter{}) }

// filter writes to standard error, but for lines of no use to anybody.
type filter struct{}

var useless = []byte("INFO: metrics: disable exposing PSI metrics")

func (filter) Write(line []byte) (int, error) {
	if bytes.Contains(line, useless) {
		return len(line), nil
	}
	return os.Stderr.Write(line)
}
