package main

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// costGap is how often the daemon measures itself: its cost changes slowly, and
// measuring it costs too.
const costGap = time.Minute

// cost reads this process's use of CPU time, wake-ups and resident memory.
type cost struct {
	statm *source.File
	last  time.Time
	shed  time.Time // when memory was last given back
	buf   [128]byte
}

// openCost reads the real /proc, not --procfs-root: it measures this process.
func openCost() *cost { return &cost{statm: source.NewFile(source.At("/proc/self/statm"))} }

// Read adds the process's cost, once in costGap.
func (c *cost) Read(t *report.Tick) {
	now := time.Now()
	first := c.last.IsZero()
	if !first && now.Sub(c.last) < costGap {
		return
	}
	c.last = now
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err == nil {
		t.Add(report.SensorCPU, (unix.TimevalToNsec(u.Utime)+unix.TimevalToNsec(u.Stime))/int64(time.Millisecond))
		t.Add(report.SensorWakeups, int64(u.Nvcsw))
	}
	if pages, ok := c.resident(); ok {
		t.Add(report.SensorMemory, pages*int64(os.Getpagesize())/1024)
	}
	if !first && (c.shed.IsZero() || now.Sub(c.shed) >= shedGap) {
		c.shed = now
		shed()
	}
}

// resident returns the second number of statm: resident pages. Where the system
// has no such file, the memory is not known.
func (c *cost) resident() (int64, bool) {
	b, err := c.statm.Read(c.buf[:])
	if err != nil {
		return 0, false
	}
	_, rest := source.Field(b)
	pages, _ := source.Field(rest)
	v, err := source.Integer(pages)
	return v, err == nil
}

// Close closes the file of /proc.
func (c *cost) Close() error { return c.statm.Close() }
