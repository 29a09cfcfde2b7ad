package soc

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// underVoltage is the kernel's own watch over the supply: raspberrypi-hwmon
// asks the firmware every 2 s, says whether the voltage was too low since, and
// wakes whoever polls when that changes.
type underVoltage struct {
	*source.Value
	wake  chan struct{}
	watch *watch // of the file as it was opened last; nil = none
}

func newUnderVoltage(r source.Roots) *underVoltage {
	return &underVoltage{wake: make(chan struct{}, 1), Value: source.NewValue(report.UnderVoltage, source.Integer, func() []string {
		return source.Labelled(hwmon(r), "name", []string{"rpi_volt"}, "in0_lcrit_alarm")
	})}
}

// Prompt is source.Prompt's: to start the watch opens the file once more.
func (u *underVoltage) Prompt() bool {
	return (u.watch != nil || !u.Kernel()) && u.Value.Prompt()
}

// Read starts the watch, and adds the alarm where nothing else has told the
// throttle bits, of which it is the first.
func (u *underVoltage) Read(t *report.Tick, scratch []byte) error {
	v, err := u.Get(scratch)
	if u.watch != nil && !u.Kernel() {
		err = errors.Join(err, u.unwatch())
	}
	if err != nil {
		return err
	}
	if u.watch == nil && u.Kernel() {
		if u.watch, err = startWatch(u.Path(), u.wake); err != nil {
			return err
		}
	}
	if source.Has(t, report.Throttled) {
		return nil
	}
	return source.Add(t, report.UnderVoltage, v)
}

func (u *underVoltage) unwatch() error {
	if u.watch == nil {
		return nil
	}
	err := u.watch.Close()
	u.watch = nil
	return err
}

// Close ends the watch and closes the file.
func (u *underVoltage) Close() error { return errors.Join(u.unwatch(), u.Value.Close()) }

// watch waits for a file of the kernel to change. It waits in the runtime's
// poller, not in a thread of its own: the kernel tells of a change by POLLPRI
// and POLLERR, of which an epoll hears the second whatever it has asked for.
type watch struct {
	file  *os.File
	ended chan struct{}
}

// startWatch starts a goroutine that sends to wake when the file's content has
// changed, until Close or until the file's device goes.
func startWatch(path string, wake chan<- struct{}) (*watch, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	w := &watch{os.NewFile(uintptr(fd), path), make(chan struct{})}
	raw, err := w.file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, w.file.Close())
	}
	last := &content{}
	last.look(uintptr(fd), wake)
	go func() {
		defer close(w.ended)
		// It ends with an error when the file is closed or cannot be polled, without
		// one when the device goes: then there is nothing to wait for.
		_ = raw.Read(func(fd uintptr) bool { return last.look(fd, wake) })
	}()
	return w, nil
}

// content is what the file said when it was last read.
type content struct {
	buf, before [64]byte
	n           int
	read        bool // there is something before
}

// look reads the file, without which the kernel would not tell of the next
// change, and reports whether there is nothing more to wait for.
func (c *content) look(fd uintptr, wake chan<- struct{}) bool {
	n, err := unix.Pread(int(fd), c.buf[:], 0)
	if err != nil {
		return !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EIO)
	}
	if changed := string(c.buf[:n]) != string(c.before[:c.n]); changed && c.read {
		select {
		case wake <- struct{}{}:
		default: // one wake is already waiting, and that is enough
		}
	}
	c.n, c.read = copy(c.before[:], c.buf[:n]), true
	return false
}

// Close ends the watch and waits for its goroutine.
func (w *watch) Close() error {
	err := w.file.Close()
	<-w.ended
	return err
}
