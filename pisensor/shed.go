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

// shed gives back memory that the process no longer needs: garbage, and the pages of its program
// that only its start or a backlog has run. The kernel would drop these under pressure only, and
// counts them until then. Pages that are needed again come back from the page cache, some 30 in
// five minutes.
func shed() {
	debug.FreeOSMemory()
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return // then they stay
	}
	for _, p := range untouched(maps) {
		// Advice that the kernel does not take leaves all as it was.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, p.from, p.size, unix.MADV_DONTNEED)
	}
}

// part is a piece of the process's memory, in bytes.
type part struct{ from, size uintptr }

// untouched finds in /proc/self/smaps (proc_pid_smaps(5)) the parts of files that cannot be written
// to and never were, by a dynamic linker for instance: dropping others would lose their contents.
func untouched(smaps []byte) (found []part) {
	var p part
	candidate := false
	for line := range bytes.Lines(smaps) {
		if from, size, ok := programPart(line); ok {
			p, candidate = part{from, size}, true
			continue
		}
		if rest, ok := bytes.CutPrefix(line, []byte("Anonymous:")); ok {
			if candidate && string(bytes.TrimSpace(rest)) == "0 kB" {
				found = append(found, p)
			}
			candidate = false
		}
	}
	return found
}

// programPart takes the first line of a mapping apart and reports whether it is
// a part of a file that is mapped for reading alone.
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
