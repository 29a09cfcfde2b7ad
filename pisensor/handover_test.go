package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bramble/pisensor/identity"
	"bramble/pisensor/report"
)

// manager is the part of a service manager that the daemon speaks to: it starts real processes,
// receives their notifications, and keeps their files.
type manager struct {
	t      testing.TB
	conn   *net.UnixConn
	binary string
	files  map[string]*os.File
}

func newManager(t testing.TB) *manager {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "pisensor")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	name := fmt.Sprintf("@bramble-pisensor-test-%d-%s", os.Getpid(), t.Name())
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &manager{t: t, conn: conn, binary: binary, files: map[string]*os.File{}}
}

// start runs the daemon as systemd does: the process finds its own number in
// LISTEN_PID, so a shell sets it and becomes the daemon.
func (m *manager) start(args ...string) *exec.Cmd {
	m.t.Helper()
	c := exec.Command("/bin/sh", append([]string{"-c", `export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$@"`, "sh", m.binary, "run"}, args...)...)
	c.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.conn.LocalAddr().String(), "WATCHDOG_USEC=2000000")
	var names []string
	for name, f := range m.files {
		names, c.ExtraFiles = append(names, name), append(c.ExtraFiles, f)
	}
	c.Env = append(c.Env, "LISTEN_FDS="+strconv.Itoa(len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	c.Stderr = m.t.Output()
	if err := c.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	return c
}

// until reads messages until one matches, keeps the files that come along, and returns the match.
func (m *manager) until(expression string) []string {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		m.t.Fatal(err)
	}
	want := regexp.MustCompile(expression)
	b, oob := make([]byte, 4096), make([]byte, 256)
	for {
		n, rights, _, _, err := m.conn.ReadMsgUnix(b, oob)
		if err != nil {
			m.t.Fatalf("waiting for %q: %v", expression, err)
		}
		text := string(b[:n])
		if name, ok := strings.CutPrefix(text, "FDSTORE=1\nFDNAME="); ok {
			m.keep(name, oob[:rights])
		}
		if name, ok := strings.CutPrefix(text, "FDSTOREREMOVE=1\nFDNAME="); ok {
			m.files[name].Close()
			delete(m.files, name)
		}
		if found := want.FindStringSubmatch(text); found != nil {
			return found
		}
	}
}

func (m *manager) keep(name string, oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		m.t.Fatalf("%d control messages, %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		m.t.Fatalf("%d files, %v", len(fds), err)
	}
	f := os.NewFile(uintptr(fds[0]), name)
	m.t.Cleanup(func() { f.Close() })
	m.files[name] = f
}

// TestWaitingReadingsOutliveTheProcess ends the daemon twice while its collector is
// away, by kill -9 and by a signal, and wants every tick of the one session that
// all three processes are.
func TestWaitingReadingsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	dir, m := enrolled(t, c), newManager(t)
	args := append([]string{"--interval", "1s", "--state-dir", dir}, roots(fixture(t))...)
	killed := m.start(args...)
	m.until("READY=1")
	m.until("STATUS=connected, every 1s, ")
	c.until("a tick", func() bool { return len(c.ticks) > 0 })
	c.stop()
	m.until("STATUS=collector away")
	before := number(t, m.until(`WATCHDOG=1\nSTATUS=collector away, every 1s, ([3-9][0-9]|[0-9]{3,}) readings wait`))
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed.Wait()

	stopped := m.start(args...)
	if again := number(t, m.until(`READY=1\nSTATUS=collector away, every 1s, ([0-9]+) readings wait`)); again < before {
		t.Errorf("%d readings waited, the next process finds %d", before, again)
	}
	m.until(`WATCHDOG=1\nSTATUS=collector away, every 1s, ([0-9]+) readings wait`)
	if err := stopped.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.until("STOPPING=1")
	if err := stopped.Wait(); err != nil {
		t.Errorf("stopped with %v", err)
	}

	c.start()
	m.start(args...)
	m.until(`connected, every 1s, [0-9] readings wait`)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ticks) != 1 || c.moved > 0 {
		t.Errorf("%d sessions, %d values or times changed", len(c.ticks), c.moved)
	}
	for session, ticks := range c.ticks {
		for n := uint64(1); n <= uint64(len(ticks)); n++ {
			if _, ok := ticks[n]; !ok {
				t.Errorf("session %d: tick %d of %d is missing", session, n, len(ticks))
			}
		}
	}
}

func number(t *testing.T, match []string) int {
	t.Helper()
	n, err := strconv.Atoi(match[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestForeignSpoolIsRefusedAndCounted passes the daemon a file that is no spool.
func TestForeignSpoolIsRefusedAndCounted(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	dir, m := enrolled(t, c), newManager(t)
	foreign, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	m.files["spool"] = foreign
	m.start(append([]string{"--interval", "1s", "--state-dir", dir}, roots(fixture(t))...)...)
	m.until("READY=1")
	if m.files["spool"] == nil || m.files["spool"] == foreign {
		t.Error("the daemon has left no spool of its own with the manager")
	}
	refused := report.Series{Metric: report.SensorReadErrors, Instance: "spool"}
	c.until("a count", func() bool {
		for k, v := range c.values {
			if k.series == refused {
				return v == 1
			}
		}
		return false
	})
}

// TestAHostThatVanishesIsNoticed cuts the connection without closing it.
func TestAHostThatVanishesIsNoticed(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	dir := enrolled(t, c)
	way := newBlackHole(t, c.server.Addr().String())
	replaceURL(t, dir, "tls://"+way.listener.Addr().String())
	ctx, cancel := context.WithCancel(t.Context())
	errs := output{wrote: make(chan struct{}, 1000)}
	finished := make(chan int)
	go func() {
		args := append([]string{"run", "--interval", "1s", "--state-dir", dir}, roots(fixture(t))...)
		finished <- exitCode(run(ctx, args, &errs, &errs), &errs)
	}()
	c.until("a reading", func() bool { return len(c.values) > 0 })
	began := time.Now()
	way.swallow()
	for deadline := time.After(patience); !strings.Contains(errs.String(), "no sign of life"); { // messages in flight have arrived
		select {
		case <-errs.wrote:
		case <-deadline:
			t.Fatalf("never noticed: %s", errs.String())
		}
	}
	c.mu.Lock()
	clear(c.values)
	c.mu.Unlock()
	c.until("readings over another connection", func() bool { return len(c.values) > 0 })
	if took := time.Since(began); took > time.Minute { // TCP alone would try for a quarter of an hour
		t.Errorf("noticed after %v", took)
	} else {
		t.Logf("back after %v", took)
	}
	cancel()
	if code := <-finished; code != 0 {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}

func replaceURL(t *testing.T, dir, url string) {
	t.Helper()
	e, _, err := identity.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	e.URL = url
	if err := e.Save(dir); err != nil {
		t.Fatal(err)
	}
}

// blackHole is a way to a server whose connections can go dead without an end.
type blackHole struct {
	t        testing.TB
	listener net.Listener
	server   string

	mu    sync.Mutex
	dead  []chan struct{} // of each connection, closed when it goes dead
	conns []net.Conn
}

func newBlackHole(t *testing.T, server string) *blackHole {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &blackHole{t: t, listener: l, server: server}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { h.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		h.mu.Lock()
		for _, c := range h.conns {
			c.Close()
		}
		h.mu.Unlock()
		serving.Wait()
	})
	return h
}

func (h *blackHole) serve(board net.Conn) {
	server, err := net.Dial("tcp", h.server)
	if err != nil {
		board.Close()
		return
	}
	dead := make(chan struct{})
	h.mu.Lock()
	h.dead, h.conns = append(h.dead, dead), append(h.conns, board, server)
	h.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { carry(server, board, dead) })
	both.Go(func() { carry(board, server, dead) })
	both.Wait()
}

// carry passes bytes on until the connection is dead, and then swallows them.
func carry(to, from net.Conn, dead chan struct{}) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		select {
		case <-dead:
			if err != nil {
				return
			}
			continue
		default:
		}
		if err == nil {
			_, err = to.Write(b[:n])
		}
		if err != nil {
			to.Close()
			return
		}
	}
}

// swallow makes every connection so far dead.
func (h *blackHole) swallow() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.dead {
		close(d)
	}
	h.dead = nil
}
