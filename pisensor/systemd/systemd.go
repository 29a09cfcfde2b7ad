// Package systemd speaks to the service manager that started this process: it
// says that the process is ready, alive or stopping, and lends and takes back
// file descriptors that outlive it.
//
// It owns the two protocols, sd_notify(3) and sd_listen_fds(3), and decides
// nothing. It is Linux's, as the daemon is.
package systemd

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Manager is the way to the service manager. It is not safe for concurrent use.
type Manager struct {
	socket   int
	address  unix.SockaddrUnix
	watchdog time.Duration
}

// Connect finds the service manager that the environment names. It returns nil
// where there is none.
func Connect(getenv func(string) string) (*Manager, error) {
	name := getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil, nil
	}
	if name[0] != '/' && name[0] != '@' { // @ is written for the NUL of an abstract one
		return nil, fmt.Errorf("NOTIFY_SOCKET %q: neither a path nor an abstract socket", name)
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reach the service manager: %w", err)
	}
	m := &Manager{socket: socket, address: unix.SockaddrUnix{Name: name}, watchdog: watchdog(getenv)}
	return m, nil
}

// watchdog returns the longest time that this process may leave the manager without a message; 0 =
// no limit.
func watchdog(getenv func(string) string) time.Duration {
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 || usec > int64(24*time.Hour/time.Microsecond) {
		return 0 // not asked for, or never within a day
	}
	return time.Duration(usec) * time.Microsecond
}

// Watchdog returns the time within which the manager must receive WATCHDOG=1, else it ends the
// process; 0 = it never does.
func (m *Manager) Watchdog() time.Duration { return m.watchdog }

// Notify sends assignments, one a line, such as READY=1. It never waits: a
// manager that does not read is an error.
func (m *Manager) Notify(state []byte) error { return m.send(state, nil) }

func (m *Manager) send(state, rights []byte) error {
	if err := unix.Sendmsg(m.socket, state, rights, &m.address, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}

// Store asks the manager to keep a file under a name, and to pass it to the
// next process of the service. It does so if the unit allows it
// (FileDescriptorStoreMax=), and does not say.
func (m *Manager) Store(name string, f *os.File) error {
	return m.send([]byte("FDSTORE=1\nFDNAME="+name), unix.UnixRights(int(f.Fd())))
}

// Discard asks the manager to keep no file under a name.
func (m *Manager) Discard(name string) error {
	return m.send([]byte("FDSTOREREMOVE=1\nFDNAME="+name), nil)
}

// Close ends the way to the manager, not the manager's interest in the process.
func (m *Manager) Close() error { return unix.Close(m.socket) }

// maxFiles bounds the number of files that the environment may announce.
const maxFiles = 64

// firstFile is the number of the first inherited file (SD_LISTEN_FDS_START).
const firstFile = 3

// Files returns the files that the manager passes to this process, each with its
// name there. They are the caller's to close. It may be called once.
func Files(getenv func(string) string) []*os.File {
	var files []*os.File
	for i, name := range fileNames(getenv, os.Getpid()) {
		unix.CloseOnExec(firstFile + i)
		files = append(files, os.NewFile(uintptr(firstFile+i), name))
	}
	return files
}

// fileNames returns the names of the files that are meant for process pid.
func fileNames(getenv func(string) string, pid int) []string {
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n <= 0 || n > maxFiles || getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil
	}
	names := make([]string, n)
	for i, name := range strings.SplitN(getenv("LISTEN_FDNAMES"), ":", n) {
		names[i] = name
	}
	return names
}
