package sensor

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Uptime reads CLOCK_BOOTTIME: the time since boot, suspended time included, which nobody can set.
// The call bypasses the scheduler (pisensor/source, prompt.go, says why).
func Uptime() time.Duration {
	var t unix.Timespec
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		panic(errno) // every kernel since 2.6.39 has this clock
	}
	return time.Duration(t.Nano())
}
