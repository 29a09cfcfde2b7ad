//go:build !linux

package sensor

import "time"

// started stands in for the boot where the system has no CLOCK_BOOTTIME.
var started = time.Now()

// Uptime is the time since the process started, on systems other than Linux:
// enough for simulated boards and recordings.
func Uptime() time.Duration { return time.Since(started) }
