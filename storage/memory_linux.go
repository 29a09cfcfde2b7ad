package storage

import (
	"bytes"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
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

// groupMemory returns the memory limit of this process's control group of version 1, where the engine reads that of
// the root alone. math.MaxInt64 means none.
func groupMemory() int64 {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return math.MaxInt64
	}
	text, err := os.ReadFile(path.Join("/sys/fs/cgroup/memory", memoryGroup(groups), "memory.limit_in_bytes"))
	if err != nil {
		return math.MaxInt64
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || n <= 0 {
		return math.MaxInt64
	}
	return n
}

// memoryGroup returns the path of the memory controller's group in /proc/PID/cgroup (cgroups(7)): lines of
// hierarchy, controllers and path, "4:memory:/x". "/" where it is not there.
func memoryGroup(groups []byte) string {
	for line := range bytes.Lines(groups) {
		fields := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		if len(fields) < 3 {
			continue
		}
		for controller := range strings.SplitSeq(fields[1], ",") {
			if controller == "memory" {
				return path.Clean("/" + fields[2])
			}
		}
	}
	return "/"
}
