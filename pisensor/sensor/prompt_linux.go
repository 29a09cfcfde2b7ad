package sensor

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// vanishedAfter is how long none of the written bytes may reach the other host before a connection
// counts as dead. The kernel itself would try for a quarter of an hour; an earlier limit
// (TCP_USER_TIMEOUT, tcp(7)) was measured to make a tick more expensive by a seventh
// (docs/benchmarks.md).
const vanishedAfter = 30 * time.Second

// promptConn is a TCP connection that waits for its peer as any other does, but hides from the
// scheduler the calls that move bytes, which never wait on such a socket: pisensor/source,
// prompt.go, has the cost that this saves.
//
// It also hides a write's deadline, which the client library sets and lifts around each write,
// until a write has to wait.
//
// A write fails where the other host has vanished without a word.
type promptConn struct {
	net.Conn
	raw syscall.RawConn

	writing sync.Mutex // one write after another
	out     transfer   // of the write
	arrival arrival
	try     func(fd uintptr) bool
	once    func(fd uintptr) bool // try, and no more

	mu            sync.Mutex
	deadline      time.Time // of writes
	deadlineKnown bool      // the scheduler may know a deadline
	waited        bool      // a write has had to wait: from then on the scheduler gets every deadline
}

// prompt returns a connection as a promptConn where it can be one.
func prompt(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	p := &promptConn{Conn: c, raw: raw, deadlineKnown: true, out: transfer{call: syscall.SYS_WRITE}, arrival: arrival{patience: vanishedAfter}}
	p.try = p.out.try // made once, since they allocate
	p.once = func(fd uintptr) bool {
		if p.arrival.overdue(fd) {
			p.out.errno = syscall.ETIMEDOUT
		} else {
			p.try(fd)
		}
		return true
	}
	return p
}

// arrival watches whether written bytes reach the other host.
type arrival struct {
	patience time.Duration
	written  uint64    // bytes so far
	arrived  uint64    // bytes of them that had arrived at the last look
	since    time.Time // when the first look was that found no more of them; zero = more had arrived, or all
}

// overdue reports whether bytes have been on their way for longer than patience,
// and none has arrived meanwhile.
func (a *arrival) overdue(fd uintptr) bool {
	var left int32 // bytes that the other host has not acknowledged: SIOCOUTQ, tcp(7)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, fd, unix.SIOCOUTQ, uintptr(unsafe.Pointer(&left))); errno != 0 {
		return false
	}
	arrived := a.written - uint64(left)
	if left == 0 || arrived > a.arrived {
		a.arrived, a.since = arrived, time.Time{}
		return false
	}
	if a.since.IsZero() {
		a.since = time.Now()
	}
	return time.Since(a.since) > a.patience
}

// transfer is a read or a write that goes on until it need not wait.
type transfer struct {
	call  uintptr
	b     []byte
	n     uintptr
	errno syscall.Errno
}

func (t *transfer) try(fd uintptr) bool {
	for {
		t.n, _, t.errno = syscall.RawSyscall(t.call, fd, uintptr(unsafe.Pointer(&t.b[0])), uintptr(len(t.b)))
		if t.errno != syscall.EINTR {
			return t.errno != syscall.EAGAIN
		}
	}
}

// result returns the same values and errors as net's own connections.
func (t *transfer) result(op string, err error) (int, error) {
	switch {
	case err != nil:
		return 0, err
	case t.errno != 0:
		return 0, &net.OpError{Op: op, Net: "tcp", Err: t.errno}
	}
	return int(t.n), nil
}

// Read reads the bytes that have arrived, at least one.
func (c *promptConn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	t := transfer{call: syscall.SYS_READ, b: b}
	n, err := t.result("read", c.raw.Read(t.try))
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// Write writes all of b.
func (c *promptConn) Write(b []byte) (n int, err error) {
	c.writing.Lock()
	defer c.done()
	for n < len(b) && err == nil {
		var more int
		more, err = c.write(b[n:])
		n += more
		c.arrival.written += uint64(more)
	}
	return n, err
}

// done ends a write: its bytes are the caller's again.
func (c *promptConn) done() {
	c.out.b = nil
	c.writing.Unlock()
}

// write writes as many bytes as the socket takes at once, or waits until it takes some.
func (c *promptConn) write(b []byte) (int, error) {
	t := &c.out
	t.b = b
	if !c.late() {
		err := c.raw.Write(c.once)
		if err != nil || t.errno != syscall.EAGAIN {
			return t.result("write", err)
		}
	}
	if err := c.wait(); err != nil {
		return 0, err
	}
	return t.result("write", c.raw.Write(c.try))
}

// late reports whether the deadline of writes has passed.
func (c *promptConn) late() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.deadline.IsZero() && time.Until(c.deadline) <= 0
}

// wait passes the deadline to the scheduler.
func (c *promptConn) wait() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadlineKnown, c.waited = true, true
	return c.Conn.SetWriteDeadline(c.deadline)
}

// SetWriteDeadline sets when a write that waits fails.
func (c *promptConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	if !c.deadlineKnown {
		return nil
	}
	c.deadlineKnown = c.waited || !t.IsZero()
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline sets when a read or a write that waits fails.
func (c *promptConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
