// Package diskspace takes space of a disk for a file that will need it, so that nobody else can. Its callers decide how
// much is kept, and for which purpose.
package diskspace

import (
	"errors"
	"os"
	"syscall"
)

// Take makes n bytes behind an offset of f the file's own; its size stays. known is false where the file system, or the
// operating system, has no reservations: then nothing is taken. It fails where there is no space left.
func Take(f *os.File, at, n int64) (known bool, err error) {
	err = allocate(f, at, n)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EOPNOTSUPP) {
		return false, nil
	}
	return err == nil, err
}
