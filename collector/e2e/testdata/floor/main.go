// Floor does next to nothing in the sensor's rhythm, as the sensor does it: it wakes
// up, reads files of the kernel, which it does not look into, and sends as many
// bytes as a report has, over TLS alone or by the sensor's client library. It
// leaves out all that a sensor is for. BenchmarkFloor measures it beside the sensor.
//
//	floor tls://ADDRESS|nats://ADDRESS INTERVAL PHASE [FILE...]
//
// The first tick comes a PHASE after the start: ticks of several processes at the
// same time would be cheap, since each finds the kernel's caches warm.
package main

import (
	"crypto/tls"
	"net"
	"net/url"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
	"unsafe"

	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"
)

const size = 75 // bytes of a report with 12 readings

func main() {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(-1)
	where, err := url.Parse(os.Args[1])
	check(err)
	interval, err := time.ParseDuration(os.Args[2])
	check(err)
	phase, err := time.ParseDuration(os.Args[3])
	check(err)
	send := sender(where)
	var files []uintptr
	for _, name := range os.Args[4:] {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
		check(err)
		files = append(files, uintptr(fd))
	}
	message, scratch := make([]byte, size), make([]byte, 1<<16)
	check(timer(interval, phase).Read(func(fd uintptr) bool {
		if call(unix.SYS_READ, fd, scratch[:8]) != 8 {
			return false
		}
		for _, fd := range files {
			call(unix.SYS_PREAD64, fd, scratch)
		}
		check(send(message))
		return false
	}))
}

// sender connects and returns the function that sends a message.
func sender(to *url.URL) func([]byte) error {
	insecure := &tls.Config{InsecureSkipVerify: true} // the server is the test harness
	if to.Scheme == "nats" {
		conn, err := nats.Connect(to.String(), nats.Secure(insecure), nats.SetCustomDialer(dialer{}),
			nats.PingInterval(time.Hour), nats.SkipSubjectValidation())
		check(err)
		return func(b []byte) error { return conn.Publish("telemetry.pi-0-0", b) }
	}
	direct, err := dialer{}.Dial("tcp", to.Host)
	check(err)
	conn := tls.Client(direct, insecure)
	check(conn.Handshake())
	return func(b []byte) error { _, err := conn.Write(b); return err }
}

// timer returns one that expires again and again, first after the phase.
func timer(interval, phase time.Duration) syscall.RawConn {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	check(err)
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(phase, 1))), Interval: unix.NsecToTimespec(int64(interval))}
	check(unix.TimerfdSettime(fd, 0, &spec, nil))
	raw, err := os.NewFile(uintptr(fd), "timer").SyscallConn()
	check(err)
	return raw
}

// direct is a connection that does not tell the scheduler of its writes.
type direct struct {
	net.Conn
	raw syscall.RawConn
}

// dialer is a nats.CustomDialer.
type dialer struct{}

func (dialer) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	return &direct{c, raw}, err
}

// SetWriteDeadline does nothing: the client library sets and lifts one around each
// write, which the sensor does not tell the scheduler of either.
func (d *direct) SetWriteDeadline(time.Time) error { return nil }

// Write writes b, for which there is always room.
func (d *direct) Write(b []byte) (n int, err error) {
	err = d.raw.Write(func(fd uintptr) bool { n = call(unix.SYS_WRITE, fd, b); return true })
	return n, err
}

// call is a call into the kernel that does not wait. The scheduler is not told
// of it, as by the sensor (pisensor/source, prompt.go).
func call(number, fd uintptr, b []byte) int {
	n, _, errno := unix.RawSyscall6(number, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
	if errno != 0 && errno != unix.EAGAIN {
		check(errno)
	}
	return int(n)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
