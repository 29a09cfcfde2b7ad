package sensor

import (
	"errors"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bootAlarm is an alarm on CLOCK_BOOTTIME, which goes on while the system is
// suspended. It is also far cheaper than a timer of Go: the runtime polls in
// whole milliseconds, and while it is late for a timer its monitor thread wakes
// up every 20 µs, some 25 times a tick.
//
// The loop waits in the runtime's poller itself, and is signalled by a deadline that has passed, so
// that a tick wakes up no other goroutine.
type bootAlarm struct {
	file *os.File
	raw  syscall.RawConn
	look func(fd uintptr) bool // attend, made once: a method's value allocates
	next time.Duration         // to be set; 0 = it is
}

// farthest is the longest time that is set: it fits 32-bit seconds.
const farthest = 24 * time.Hour

// newAlarm returns a bootAlarm, and a timer of Go on kernels before 3.15.
func newAlarm() alarm {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return newGoAlarm()
	}
	a := &bootAlarm{file: os.NewFile(uintptr(fd), "timer")}
	a.look = a.attend
	if a.raw, err = a.file.SyscallConn(); err != nil {
		panic(err) // only a nil file has none
	}
	return a
}

func (a *bootAlarm) wait(d time.Duration) {
	a.next = min(max(d, 1), farthest) // 0 would switch it off
	err := a.raw.Read(a.look)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = a.file.SetReadDeadline(time.Time{})
	}
	if err != nil {
		panic(err) // an open timer can be read
	}
}

// attend sets the timer before the first look at it, when the poller has begun to listen: no later
// expiry is missed.
func (a *bootAlarm) attend(fd uintptr) bool {
	if a.next == 0 {
		return expired(fd)
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(a.next))}
	if err := unix.TimerfdSettime(int(fd), 0, &spec, nil); err != nil {
		panic(err) // a valid time on an open timer cannot fail
	}
	a.next = 0
	return false
}

// expired reads the timer and reports whether it had expired. The scheduler is unaware of the call,
// which never waits (pisensor/source, prompt.go, says why).
func expired(fd uintptr) bool {
	var times [8]byte
	n, _, _ := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&times)), unsafe.Sizeof(times))
	return n == unsafe.Sizeof(times)
}

func (a *bootAlarm) signal() {
	_ = a.file.SetReadDeadline(time.Unix(1, 0)) // it fails where the loop has ended
}

func (a *bootAlarm) close() { a.file.Close() }
