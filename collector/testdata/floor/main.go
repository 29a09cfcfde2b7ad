// Floor is the least that a Go program with a TLS connection can do in the
// sensor's rhythm: it wakes up, reads files of the kernel, and writes 150 bytes
// in one record. It leaves out all that a sensor is for. BenchmarkFloor
// measures it beside the sensor.
//
//	floor ADDRESS INTERVAL [FILE...]
package main

import (
	"crypto/tls"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const size = 150 // bytes of a report with 15 readings

func main() {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(-1)
	interval, err := time.ParseDuration(os.Args[2])
	check(err)
	conn := tls.Client(dial(os.Args[1]), &tls.Config{InsecureSkipVerify: true}) // it is the harness that it speaks to
	check(conn.Handshake())
	var files []uintptr
	for _, name := range os.Args[3:] {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
		check(err)
		files = append(files, uintptr(fd))
	}
	message, scratch := make([]byte, size), make([]byte, 1<<16)
	check(timer(interval).Read(func(fd uintptr) bool {
		if call(unix.SYS_READ, fd, scratch[:8]) != 8 {
			return false
		}
		for _, fd := range files {
			call(unix.SYS_PREAD64, fd, scratch)
		}
		_, err := conn.Write(message)
		check(err)
		return false
	}))
}

// timer returns one that expires again and again.
func timer(interval time.Duration) syscall.RawConn {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	check(err)
	every := unix.NsecToTimespec(int64(interval))
	check(unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Value: every, Interval: every}, nil))
	raw, err := os.NewFile(uintptr(fd), "timer").SyscallConn()
	check(err)
	return raw
}

// direct is a connection that does not tell the scheduler of its writes.
type direct struct {
	net.Conn
	raw syscall.RawConn
}

func dial(address string) *direct {
	c, err := net.Dial("tcp", address)
	check(err)
	raw, err := c.(*net.TCPConn).SyscallConn()
	check(err)
	return &direct{c, raw}
}

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
