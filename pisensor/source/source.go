// Package source is how the sources of a board are read: files of the kernel
// that stay open, bounded in size, and a Group that asks one source after
// another and waits for none.
//
// It knows no source itself: pisensor/soc and pisensor/host do. It runs no
// program, writes nothing, and turns nothing into zero: a source that the
// board lacks has no reading, one that fails, hangs or answers nonsense has
// none in that tick and is counted.
package source

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"bramble/pisensor/report"
)

// Roots say where the kernel's trees are mounted. Empty fields mean the usual places.
type Roots struct {
	Sysfs  string // /sys
	Procfs string // /proc
	Devfs  string // /dev
	Etc    string // /etc, for os-release
}

// Complete returns the roots with the usual places in empty fields.
func (r Roots) Complete() Roots {
	return Roots{
		Sysfs: cmp.Or(r.Sysfs, "/sys"), Procfs: cmp.Or(r.Procfs, "/proc"),
		Devfs: cmp.Or(r.Devfs, "/dev"), Etc: cmp.Or(r.Etc, "/etc"),
	}
}

// ErrAbsent means that the board does not have the source. That is a state, not a failure: it is
// not counted.
var ErrAbsent = errors.New("not on this board")

// Reader is one source. A Group calls it from one goroutine at a time.
type Reader interface {
	// Read adds the source's readings. The tick holds the readings of the sources before it in the
	// group. The scratch is Read's until it returns. An error is counted, unless it is ErrAbsent;
	// readings that were added before an error stay.
	Read(t *report.Tick, scratch []byte) error
	// Close closes the source's files.
	Close() error
}

// Prompt is a Reader that may know that its next Read answers at once. Group
// reads it without a worker then: a file of the kernel that is open and was
// never slow, or a source that is not there.
type Prompt interface{ Prompt() bool }

// Item is a source's place in a Group.
type Item struct {
	// Name is the source's name in pisensor_read_errors_total, of letters,
	// digits and _, and each name once in a group.
	Name   string
	Reader Reader
	// Every is the minimum time between two reads; 0 = read in every tick.
	Every time.Duration
}

// How often sources are read whose cost or news do not deserve every tick.
const (
	// Calm is for values that take the kernel long to compute, such as the processors' time, or
	// that nobody needs each second, such as the load, which the kernel itself takes each 5 s
	// (LOAD_FREQ in include/linux/sched/loadavg.h). At the default rate of a tick in 10 s it is
	// read in each, at 1 Hz in every tenth. It is a little less than 10 s, so that no tick comes
	// too early for it.
	Calm = 9500 * time.Millisecond
	// Seldom is for values that change with a configuration or a reboot.
	Seldom = 59500 * time.Millisecond
	// Rarely is for the board's description.
	Rarely = 10*time.Minute - 500*time.Millisecond
)

// Add adds a reading of a metric without instances, if it is plausible.
func Add(t *report.Tick, m report.Metric, v int64) error { return AddInstance(t, m, "", v) }

// AddInstance adds a reading of one device or operation, if it is plausible.
func AddInstance(t *report.Tick, m report.Metric, instance string, v int64) error {
	if d := report.Define(m); v < d.Min || v > d.Max {
		return fmt.Errorf("%d is beyond what %s can be (%d to %d)", v, d.Name, d.Min, d.Max)
	}
	t.AddInstance(m, instance, v)
	return nil
}

// Has reports whether the tick holds a reading of the metric.
func Has(t *report.Tick, m report.Metric) bool { return Index(t, m) >= 0 }

// Index returns where in the tick's readings the first one of the metric
// stands, -1 where there is none.
func Index(t *report.Tick, m report.Metric) int {
	for i := range t.Readings {
		if t.Readings[i].Series.Metric == m {
			return i
		}
	}
	return -1
}
