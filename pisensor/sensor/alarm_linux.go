package sensor

import (
	"os"
	"sync"
	"time"

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
	var expired [8]byte
	for {
		if _, err := a.file.Read(expired[:]); err != nil {
			return // closed
		}
		select {
		case a.ringing <- time.Time{}:
		default: // the loop has not heard the last one yet
		}
	}
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
