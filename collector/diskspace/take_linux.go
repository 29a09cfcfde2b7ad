package diskspace

import (
	"errors"
	"os"
	"syscall"
)

// keepSize is FALLOC_FL_KEEP_SIZE of fallocate(2): the space is the file's, its
// size stays.
const keepSize = 1

// Take makes n bytes behind an offset of f the file's own; its size stays. known is false where the file system, or the
// operating system, has no reservations: then nothing is taken. It fails where there is no space left.
func Take(f *os.File, at, n int64) (known bool, err error) {
	for {
		err = syscall.Fallocate(int(f.Fd()), keepSize, at, n)
		if err != syscall.EINTR {
			break
		}
	}
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EOPNOTSUPP) {
		return false, nil
	}
	return err == nil, err
}
