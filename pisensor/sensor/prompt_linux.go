package sensor

import (
	"io"
	"net"
	"syscall"
	"unsafe"
)

// promptConn is a TCP connection that waits for its peer as any other does, but
// does not tell the scheduler of the calls that move bytes, which never wait
// on such a socket: pisensor/source, prompt.go, says what that saves.
type promptConn struct {
	net.Conn
	raw syscall.RawConn
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
	return &promptConn{c, raw}
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

// result is what net's own connections return.
func (t *transfer) result(op string, err error) (int, error) {
	switch {
	case err != nil:
		return 0, err
	case t.errno != 0:
		return 0, &net.OpError{Op: op, Net: "tcp", Err: t.errno}
	}
	return int(t.n), nil
}

// Read reads what there is, at least one byte.
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
	for n < len(b) && err == nil {
		var more int
		t := transfer{call: syscall.SYS_WRITE, b: b[n:]}
		more, err = t.result("write", c.raw.Write(t.try))
		n += more
	}
	return n, err
}
