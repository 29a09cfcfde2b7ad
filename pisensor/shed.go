package main

import (
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// shedGap is how often memory is given back.
const shedGap = time.Hour

// shed gives back what the process does not need any more: garbage, and the
// pages of its program that only its start or a backlog has run. The kernel would
// drop these under pressure only, and counts them until then. What is needed
// again comes back from the page cache, some 30 pages in five minutes.
func shed() {
	debug.FreeOSMemory()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return // then they stay
	}
	for line := range bytes.Lines(maps) {
		if from, size, ok := programPart(line); ok {
			// Advice that the kernel does not take leaves all as it was.
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, size, unix.MADV_DONTNEED)
		}
	}
}

// programPart takes a line of /proc/self/maps (proc_pid_maps(5)) apart and
// reports whether it is a part of a file that is mapped and never written to:
// dropping any other would lose what is in it.
func programPart(line []byte) (from, size uintptr, ok bool) {
	fields := bytes.Fields(line)
	if len(fields) < 6 || len(fields[1]) != 4 || fields[1][1] != '-' || fields[1][3] != 'p' || string(fields[4]) == "0" {
		return 0, 0, false
	}
	first, last, _ := bytes.Cut(fields[0], []byte{'-'})
	a, errA := strconv.ParseUint(string(first), 16, strconv.IntSize)
	z, errZ := strconv.ParseUint(string(last), 16, strconv.IntSize)
	return uintptr(a), uintptr(z - a), errA == nil && errZ == nil && z > a
}
