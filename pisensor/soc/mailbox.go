package soc

import (
	"errors"
	"io/fs"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/physic"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// mailbox speaks to the firmware through the property call of /dev/vcio, which
// root and the group video may use, or through /dev/vcio_gencmd, where only
// its text commands pass. A driver that loads late is found later.
type mailbox struct {
	vcio, gencmd string // paths
	retry        source.Retry
	node         string // the path that is open; empty = none
	fd           int
	message      message
	command      command
	firmware     *source.Text
	asked        bool // the firmware has been asked for its revision
	clockless    bool // it knows the measured clock neither by tag nor by command
}

// property is _IOWR(100, 0, char *): its number holds the size of a pointer.
const property = 3<<30 | unsafe.Sizeof(uintptr(0))<<16 | 100<<8

// ask sends a message, whose first word is its length in bytes, to the firmware
// and has the answer written in its place. The driver holds one lock for all
// who ask, and gives the firmware 1 s.
func ask(fd int, message *uint32) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), property, uintptr(unsafe.Pointer(message)))
	if errno != 0 {
		return errno
	}
	return nil
}

func newMailbox(r source.Roots) *mailbox {
	return &mailbox{
		vcio: filepath.Join(r.Devfs, "vcio"), gencmd: filepath.Join(r.Devfs, "vcio_gencmd"),
		firmware: source.NewText(report.AttributeFirmware, nil),
	}
}

// Prompt is source.Prompt's. Somebody else's question may hold up the driver, so
// that only a mailbox that is not there answers at once.
func (m *mailbox) Prompt() bool { return m.node == "" && m.retry.Waits() }

// Read adds measured clock, throttle bits and core voltage.
func (m *mailbox) Read(t *report.Tick, _ []byte) error {
	if m.node == "" {
		if err := m.find(); err != nil {
			return err
		}
	}
	a, err := m.ask()
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		err = errors.Join(err, m.Close())
	}
	return errors.Join(err, a.add(t))
}

// ask asks for everything in one call, where that passes. A firmware that is
// older than the measured clock's tag may know it by command.
func (m *mailbox) ask() (answer, error) {
	if m.node == m.gencmd {
		return m.command.ask(m.fd)
	}
	if !m.asked {
		m.askRevision()
	}
	m.message.ask()
	if err := ask(m.fd, &m.message[0]); err != nil {
		return answer{}, m.failed(err)
	}
	a, err := parse(m.message[:])
	if err == nil && !a.hasClock && !m.clockless {
		err = m.askClock(&a)
	}
	return a, err
}

// askClock asks for the measured clock by command. A firmware that does not
// know it so either is not asked again.
func (m *mailbox) askClock(a *answer) error {
	err := m.command.put(m.fd, measureClock, a)
	if errors.Is(err, errAnswer) {
		m.clockless, err = true, nil
	}
	return err
}

// askRevision learns which firmware this is; it stays so until the next boot.
func (m *mailbox) askRevision() {
	m.message.askRevision()
	if ask(m.fd, &m.message[0]) != nil {
		return // the call that follows says it too; asked again next time
	}
	m.asked = true
	if a, err := parse(m.message[:]); err == nil && a.hasRevision {
		m.firmware.Set(time.Unix(int64(a.revision), 0).UTC().Format("2006-01-02T15:04:05Z"))
	}
}

func (m *mailbox) failed(err error) error { return &fs.PathError{Op: "ask", Path: m.node, Err: err} }

// add adds the values of the firmware's answer.
func (a *answer) add(t *report.Tick) error {
	var clock, throttled, voltage error
	if a.hasClock {
		clock = source.Add(t, report.ClockMeasured, int64((a.clock+physic.MegaHertz/2)/physic.MegaHertz))
	}
	if a.hasThrottled {
		throttled = source.Add(t, report.Throttled, int64(a.throttled&nowBits))
	}
	if a.hasVoltage {
		const step = 100 * physic.MicroVolt
		voltage = source.Add(t, report.CoreVolts, int64((a.voltage+step/2)/step))
	}
	return errors.Join(clock, throttled, voltage)
}

// find opens the first device that lets us.
func (m *mailbox) find() error {
	if !m.retry.Due() {
		return source.ErrAbsent
	}
	found := source.ErrAbsent
	for _, path := range [...]string{m.vcio, m.gencmd} {
		fd, err := openDevice(path)
		if err == nil {
			m.node, m.fd = path, fd
			m.retry.Found()
			return nil
		}
		if errors.Is(found, source.ErrAbsent) && !errors.Is(err, fs.ErrNotExist) {
			found = err
		}
	}
	m.retry.Failed()
	return found
}

var (
	errNoDevice = errors.New("not a device")
	errGroup    = errors.New("no measured clock, throttle bits and core voltage without it: run as a user in the group video")
)

func openDevice(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = errors.Join(err, errGroup)
		}
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	var s unix.Stat_t
	if err = unix.Fstat(fd, &s); err == nil && s.Mode&unix.S_IFMT != unix.S_IFCHR {
		err = errNoDevice
	}
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: errors.Join(err, unix.Close(fd))}
	}
	return fd, nil
}

// Close closes the device.
func (m *mailbox) Close() error {
	if m.node == "" {
		return nil
	}
	m.node, m.asked, m.clockless = "", false, false
	return unix.Close(m.fd)
}
