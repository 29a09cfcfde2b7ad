package admin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrLocked is wrapped where another process holds the data directory.
var ErrLocked = errors.New("in use by another process")

// lockName is the lock's file in the data directory. It holds its holder's process id, for people;
// the lock is the flock, which ends with the process.
const lockName = "lock"

// Lock takes a data directory, and creates it where it is missing. One process
// at a time may write there. It wraps ErrLocked when another one does.
func Lock(dir string) (release func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	path := filepath.Join(dir, lockName)
	// A plain descriptor: an os.File that nobody refers to any more would be
	// closed by the garbage collector, and the lock with it.
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CREAT|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: open %s: %w", path, err)
	}
	if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer syscall.Close(fd)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock data directory %s: %w%s: stop that one, or choose another directory with --data-dir", dir, ErrLocked, holder(path))
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := errors.Join(give(fd, dir), note(fd)); err != nil {
		return nil, errors.Join(fmt.Errorf("lock data directory: %w", err), syscall.Close(fd))
	}
	return func() error { return syscall.Close(fd) }, nil
}

// give lets the directory's owner lock it, too, where root has made the file.
func give(fd int, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var owner syscall.Stat_t
	if err := syscall.Stat(dir, &owner); err != nil {
		return err
	}
	return syscall.Fchown(fd, int(owner.Uid), int(owner.Gid))
}

func note(fd int) error {
	if err := syscall.Ftruncate(fd, 0); err != nil {
		return err
	}
	_, err := syscall.Pwrite(fd, []byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// holder names the process that holds the lock, where it can be known.
func holder(path string) string {
	text, err := os.ReadFile(path)
	pid := strings.TrimSpace(string(text))
	if _, bad := strconv.Atoi(pid); err != nil || bad != nil {
		return ""
	}
	return " (process " + pid + ")"
}
