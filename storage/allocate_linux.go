package storage

import (
	"os"
	"syscall"
)

// allocate makes sure that a file has so many bytes of the disk.
func allocate(f *os.File, size int64) error {
	for {
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, size); err != syscall.EINTR {
			return err
		}
	}
}
