// Package soc reads what a Raspberry Pi says about its processor: temperature,
// requested and measured clock, core voltage, throttle bits and load. On other
// machines it reads what is there.
//
// It runs no program, writes nothing, and turns nothing into zero: a source
// that the board lacks has no reading, one that answers nonsense has none in
// that tick and is counted.
package soc

import (
	"errors"
	"log/slog"

	"bramble/pisensor/report"
)

// Roots say where the kernel's trees are mounted. Empty fields mean the usual places.
type Roots struct {
	Sysfs  string // /sys
	Procfs string // /proc
	Devfs  string // /dev
	Etc    string // /etc, for os-release
}

func (r Roots) complete() Roots {
	for _, f := range []struct {
		field *string
		usual string
	}{{&r.Sysfs, "/sys"}, {&r.Procfs, "/proc"}, {&r.Devfs, "/dev"}, {&r.Etc, "/etc"}} {
		if *f.field == "" {
			*f.field = f.usual
		}
	}
	return r
}

// Board reads one board. It keeps its files open. One goroutine may use it.
type Board struct {
	roots       Roots
	clock       *file
	temperature *file
	mailbox     *mailbox
	throttled   *file
	load        *file
}

// Open finds the board's sources. What is missing is looked for again from
// time to time; nothing here is an error.
func Open(roots Roots, log *slog.Logger) *Board {
	roots = roots.complete()
	return &Board{
		roots:       roots,
		clock:       newFile("cpufreq", clockPaths(roots)),
		temperature: newFile("thermal", func() []string { return temperaturePaths(roots) }),
		mailbox:     openMailbox(roots, log),
		throttled:   newFile("get_throttled", throttledPaths(roots)),
		load:        newFile("loadavg", loadPaths(roots)),
	}
}

// Read adds what the board says now. The clock comes first: the work of
// reading the rest would raise it (the governor sees the load).
func (b *Board) Read(t *report.Tick) {
	b.clock.add(t, report.ClockRequested, parseClock)
	b.temperature.add(t, report.SOCTemperature, parseTemperature)
	b.mailbox.add(t)
	if b.mailbox.absent() {
		b.throttled.add(t, report.Throttled, parseThrottled)
	}
	b.load.add(t, report.Load1, parseLoad)
	b.addErrors(t)
}

// addErrors adds the counters of the sources that ever answered nonsense.
func (b *Board) addErrors(t *report.Tick) {
	for _, f := range [...]*file{b.clock, b.temperature, b.throttled, b.load} {
		if f.errors > 0 {
			t.AddInstance(report.SensorReadErrors, f.source, f.errors)
		}
	}
	if b.mailbox.errors > 0 {
		t.AddInstance(report.SensorReadErrors, "mailbox", b.mailbox.errors)
	}
}

// Close closes the files.
func (b *Board) Close() error {
	return errors.Join(b.clock.Close(), b.temperature.Close(), b.mailbox.Close(), b.throttled.Close(), b.load.Close())
}
