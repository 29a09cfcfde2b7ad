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

// pread reads once from an offset of an open file. b must not be empty.
func (p *prompt) pread(fd int, b []byte, offset int) (int, error) {
	if p.slow {
		return unix.Pread(fd, b, int64(offset))
	}
	began := time.Now()
	// preadv, since its offset has the same two words on every architecture.
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	n, _, errno := unix.RawSyscall6(unix.SYS_PREADV, uintptr(fd), uintptr(unsafe.Pointer(&v)), 1, uintptr(offset), 0, 0)
	p.took(time.Since(began))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func (p *prompt) took(d time.Duration) { p.slow = p.slow || d > promptly }
