package storage

import (
	"math"
	"syscall"
)

// machineMemory returns the machine's memory in bytes, math.MaxInt64 when the kernel does not tell.
func machineMemory() int64 {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return math.MaxInt64
	}
	return int64(info.Totalram) * int64(info.Unit)
}
