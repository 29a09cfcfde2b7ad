package sensor

import (
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bootAlarm is an alarm on CLOCK_BOOTTIME, which goes on while the system is
// suspended. It is also far cheaper than a timer of Go: the runtime polls in
// whole milliseconds, and while it is late for a timer its monitor thread wakes
// up every 20 µs, some 25 times a tick.
type bootAlarm struct {
	fd      int
	file    *os.File
	ringing chan time.Time
	reader  sync.WaitGroup
}

// farthest is the longest time that is set: it fits 32-bit seconds.
const farthest = 24 * time.Hour

// newAlarm returns a bootAlarm, and a timer of Go on kernels before 3.15.
func newAlarm() alarm {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return newGoAlarm()
	}
	a := &bootAlarm{fd: fd, file: os.NewFile(uintptr(fd), "timer"), ringing: make(chan time.Time, 1)}
	a.reader.Go(a.read)
	return a
}

func (a *bootAlarm) read() {
	raw, err := a.file.SyscallConn()
	if err != nil {
		panic(err) // only a nil file has none
	}
	// It ends with an error, when the file is closed.
	_ = raw.Read(func(fd uintptr) bool {
		if expired(fd) {
			a.ring()
		}
		return false // wait on
	})
}

func (a *bootAlarm) ring() {
	select {
	case a.ringing <- time.Time{}:
	default: // the loop has not heard the last one yet
	}
}

// expired reads the timer and reports whether it had expired. The scheduler is
// not told of the call, which never waits (pisensor/source, prompt.go, says why).
func expired(fd uintptr) bool {
	var times [8]byte
	n, _, _ := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&times)), unsafe.Sizeof(times))
	return n == unsafe.Sizeof(times)
}

func (a *bootAlarm) rings() <-chan time.Time { return a.ringing }

func (a *bootAlarm) set(d time.Duration) {
	d = min(max(d, 1), farthest) // 0 would switch it off
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if err := unix.TimerfdSettime(a.fd, 0, &spec, nil); err != nil {
		panic(err) // a valid time on an open timer cannot fail
	}
}

func (a *bootAlarm) close() {
	a.file.Close()
	a.reader.Wait()
}
