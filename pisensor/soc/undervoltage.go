package soc

import (
	"bytes"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// underVoltage is the kernel's own watch over the supply: raspberrypi-hwmon asks the firmware every
// 2 s for its sticky bit 16, which the same request clears (drivers/hwmon/raspberrypi-hwmon.c),
// raises the alarm where the voltage was too low since it asked last, and wakes pollers when that
// changes. So the alarm has dips that bit 0, the present, never shows.
type underVoltage struct {
	*source.Value
	wake    chan struct{}
	watch   *watch // of the file as it was opened last; nil = none
	settled bool   // the board has been up for longer than startUp
}

// startUp is how long after its boot a board's supply is not judged: discs and
// radios start, and every bit of it dips.
const startUp = time.Minute

// newAlarm is rpi_volt's alarm, 0 or 1.
func newAlarm(r source.Roots) *source.Value {
	return source.NewValue(report.UnderVoltage, source.Integer, func() []string {
		return source.Labelled(hwmon(r), "name", []string{"rpi_volt"}, "in0_lcrit_alarm")
	})
}

func newUnderVoltage(r source.Roots) *underVoltage {
	return &underVoltage{wake: make(chan struct{}, 1), Value: newAlarm(r)}
}

// Prompt is source.Prompt's: to start the watch opens the file once more.
func (u *underVoltage) Prompt() bool {
	return (u.watch != nil || !u.Kernel()) && u.Value.Prompt()
}

// Read starts the watch, and adds the alarm: to the throttle bits, of which under-voltage is the
// first, or by itself where no source has read them. It adds the supply's fault as far as bits and
// alarm are known.
func (u *underVoltage) Read(t *report.Tick, scratch []byte) error {
	alarm, err := u.alarm(scratch)
	dipped := err == nil && alarm != 0
	i := source.Index(t, report.Throttled)
	low := i >= 0 && t.Readings[i].Value&underVoltageBit != 0
	switch {
	case dipped && i >= 0:
		t.Readings[i].Value |= underVoltageBit
	case err == nil && i < 0:
		err = source.Add(t, report.UnderVoltage, alarm)
	}
	if i < 0 && err != nil || !u.isSettled() {
		return err
	}
	fault := int64(0)
	switch {
	case low:
		fault = report.SupplyLow
	case dipped:
		fault = report.SupplyDipped
	}
	return errors.Join(err, source.Add(t, report.SupplyFault, fault))
}

// alarm is the alarm, which is also up where it came and went since the last
// read.
func (u *underVoltage) alarm(scratch []byte) (int64, error) {
	v, err := u.Get(scratch)
	if u.watch != nil {
		if u.watch.raised.Swap(false) && err == nil {
			v = 1
		}
		if !u.Kernel() {
			err = errors.Join(err, u.unwatch())
		}
	}
	if err == nil && u.watch == nil && u.Kernel() {
		u.watch, err = startWatch(u.Path(), u.wake)
	}
	return v, err
}

// isSettled reports whether the board has started up. Where its clock cannot be
// read it has.
func (u *underVoltage) isSettled() bool {
	if !u.settled {
		var up unix.Timespec
		u.settled = unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil || time.Duration(up.Nano()) >= startUp
	}
	return u.settled
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

// watch waits for a file of the kernel to change. It waits in the runtime's poller, not in a thread
// of its own: the kernel reports a change by POLLPRI and POLLERR, of which an epoll always reports
// the second, whether asked for or not.
type watch struct {
	file   *os.File
	ended  chan struct{}
	raised atomic.Bool // a change to something but 0 was seen since somebody asked
}

// startWatch starts a goroutine that sends to wake when the file's content has
// changed, until Close or until the file's device goes.
func startWatch(path string, wake chan<- struct{}) (*watch, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	w := &watch{file: os.NewFile(uintptr(fd), path), ended: make(chan struct{})}
	raw, err := w.file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, w.file.Close())
	}
	last := &content{raised: &w.raised}
	last.look(uintptr(fd), wake)
	go func() {
		defer close(w.ended)
		// It ends with an error when the file is closed or cannot be polled, without
		// one when the device goes: then there is nothing to wait for.
		_ = raw.Read(func(fd uintptr) bool { return last.look(fd, wake) })
	}()
	return w, nil
}

// content is the file's text when it was last read.
type content struct {
	buf, before [64]byte
	n           int
	read        bool         // there is something before
	raised      *atomic.Bool // set at a change to something but 0
}

// look reads the file, without which the kernel would not report the next change, and reports
// whether there is nothing more to wait for.
func (c *content) look(fd uintptr, wake chan<- struct{}) bool {
	n, err := unix.Pread(int(fd), c.buf[:], 0)
	if err != nil {
		return !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EIO)
	}
	if changed := string(c.buf[:n]) != string(c.before[:c.n]); changed && c.read {
		if !bytes.Equal(bytes.TrimSpace(c.buf[:n]), []byte{'0'}) {
			c.raised.Store(true)
		}
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
