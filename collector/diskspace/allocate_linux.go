package diskspace

import (
	"os"
	"syscall"
)

// keepSize is FALLOC_FL_KEEP_SIZE of fallocate(2): the space is the file's, its
// size stays.
const keepSize = 1

func allocate(f *os.File, at, n int64) error {
	for {
		if err := syscall.Fallocate(int(f.Fd()), keepSize, at, n); err != syscall.EINTR {
			return err
		}
	}
}
