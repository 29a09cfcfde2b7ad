package sensor

import (
	"time"

	"golang.org/x/sys/unix"
)

// Uptime reads CLOCK_BOOTTIME: the time since boot, suspended time included,
// which nobody can set.
func Uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err) // every kernel since 2.6.39 has this clock
	}
	return time.Duration(t.Nano())
}
