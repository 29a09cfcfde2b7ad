package soc

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/physic"

	"bramble/pisensor/report"
)

// mailbox speaks to the firmware through /dev/vcio, which root and the group
// video may open.
type mailbox struct {
	path    string
	log     *slog.Logger
	device  *os.File // nil where the board has none
	message message
	errors  int64
	failing bool
}

// propertyCall is _IOWR(100, 0, char *): its number holds the size of a pointer.
const propertyCall = 3<<30 | unsafe.Sizeof(uintptr(0))<<16 | 100<<8

func openMailbox(r Roots, log *slog.Logger) *mailbox {
	m := &mailbox{path: filepath.Join(r.Devfs, "vcio"), log: log}
	device, err := os.OpenFile(m.path, os.O_RDWR, 0)
	switch {
	case err == nil && !isDevice(device):
		log.Warn("no firmware mailbox: not a device", "path", m.path)
		err = device.Close()
		if err != nil {
			log.Warn("close", "path", m.path, "error", err)
		}
	case err == nil:
		m.device = device
	case errors.Is(err, fs.ErrPermission):
		log.Warn("no firmware mailbox, so no measured clock: run as a user in the group video", "path", m.path, "error", err)
	case !errors.Is(err, fs.ErrNotExist):
		log.Warn("no firmware mailbox, so no measured clock", "path", m.path, "error", err)
	}
	return m
}

func isDevice(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&fs.ModeCharDevice != 0
}

// absent reports whether the board has no mailbox.
func (m *mailbox) absent() bool { return m.device == nil }

// add asks for everything in one call: the driver holds one lock for all.
func (m *mailbox) add(t *report.Tick) {
	if m.absent() {
		return
	}
	m.message.ask()
	a, ok := m.call()
	if !ok {
		return
	}
	if a.hasClock {
		m.addValid(t, report.ClockMeasured, int64((a.clock+physic.MegaHertz/2)/physic.MegaHertz))
	}
	if a.hasThrottled {
		m.addValid(t, report.Throttled, int64(a.throttled&nowBits))
	}
	if a.hasVoltage {
		const step = 100 * physic.MicroVolt
		m.addValid(t, report.CoreVolts, int64((a.voltage+step/2)/step))
	}
}

func (m *mailbox) addValid(t *report.Tick, metric report.Metric, v int64) {
	if d := report.Define(metric); v < d.Min || v > d.Max {
		m.errors++
		return
	}
	t.Add(metric, v)
}

// call sends the message and reads the answer in its place.
func (m *mailbox) call() (answer, bool) {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, m.device.Fd(), propertyCall, uintptr(unsafe.Pointer(&m.message)))
	runtime.KeepAlive(m.device)
	var a answer
	var err error
	if errno != 0 {
		err = errno
	} else {
		a, err = parse(m.message[:])
	}
	m.note(err)
	return a, err == nil
}

// note counts a failed call and logs when that begins and ends.
func (m *mailbox) note(err error) {
	if err != nil {
		m.errors++
	}
	if failing := err != nil; failing != m.failing {
		m.failing = failing
		m.log.Warn("firmware mailbox", "failing", failing, "error", err)
	}
}

// Close closes the device.
func (m *mailbox) Close() error {
	if m.device == nil {
		return nil
	}
	return m.device.Close()
}
