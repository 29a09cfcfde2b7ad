package source

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// promptly is how long a call may take to count as answered at once, in which
// the caller may also have lost the processor. The kernel's own figures take
// microseconds, the firmware's mailbox up to some ms.
const promptly = 20 * time.Millisecond

// prompt reads files that the kernel answers at once, without telling Go's
// scheduler: told, it wakes up its monitor thread, which then looks again every
// 20 µs until the tick is over, several times a tick on a board that
// otherwise sleeps. The price is that nothing else of the process runs
// meanwhile. So a file that did not answer promptly once is read the usual way
// from then on, and one that hangs costs the others that one call: some files
// of sysfs ask the firmware, to which the kernel gives 1 s
// (drivers/firmware/raspberrypi.c).
//
// The zero value is ready. One goroutine may use it.
type prompt struct{ slow bool }

// pread reads from an open file's beginning. b must not be empty.
func (p *prompt) pread(fd int, b []byte) (int, error) {
	if p.slow {
		return unix.Pread(fd, b, 0)
	}
	began := time.Now()
	// An offset of 0 has the same three words on every architecture.
	n, _, errno := unix.RawSyscall6(unix.SYS_PREAD64, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
	p.took(time.Since(began))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func (p *prompt) took(d time.Duration) { p.slow = p.slow || d > promptly }
