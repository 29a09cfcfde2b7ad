package spool

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// seals keep other holders of the file from cutting it off under the mapping, which would end the
// process.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// Create returns an empty spool of so many bytes, a multiple of 4096 and at least MinBytes, in a
// file that lives in memory only (memfd_create, Linux 3.17). A process that keeps the file open
// keeps the spool, beyond the end of this process. The file is the caller's to close; the memory
// stays mapped.
func Create(bytes int, board string) (*Spool, *os.File, error) {
	fd, err := unix.MemfdCreate("pisensor-spool", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, fmt.Errorf("make the spool's memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "spool")
	mem, err := reserve(fd, bytes)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("make the spool's memory: %w", err)
	}
	return fresh(mem, board), f, nil
}

func reserve(fd, bytes int) ([]byte, error) {
	if bytes < MinBytes || bytes%blockSize != 0 {
		return nil, fmt.Errorf("%d bytes", bytes)
	}
	if err := unix.Ftruncate(fd, int64(bytes)); err != nil {
		return nil, err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, err
	}
	return unix.Mmap(fd, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// Restore takes over the spool that an earlier process of the board left in a file of Create, at
// boot-relative time now in ms. Its content is checked: a block that is damaged is dropped and
// counted (Refused). An error means that this is no spool for this board and this version, and
// nothing was taken. The file is the caller's to close.
func Restore(f *os.File, bytes int, board string, now int64) (*Spool, error) {
	fd := int(f.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("restore the spool: %w", err)
	}
	found, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || found&seals != seals || st.Size != int64(bytes) {
		return nil, fmt.Errorf("restore the spool: %w: %d bytes, seals %#x", errNotOurs, st.Size, found)
	}
	mem, err := unix.Mmap(fd, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("restore the spool: %w", err)
	}
	s, err := restore(mem, board, now)
	if err != nil {
		return nil, fmt.Errorf("restore the spool: %w", errors.Join(err, unix.Munmap(mem)))
	}
	return s, nil
}

// Unmap ends the use of a spool of Create or Restore. Its memory lives on where
// the file is open. The spool must not be used any more. One of New, or none, has
// nothing to unmap.
func (s *Spool) Unmap() error {
	if s == nil || s.mapped == nil {
		return nil
	}
	mem := s.mapped
	s.mapped, s.head, s.live, s.free = nil, nil, nil, nil
	if err := unix.Munmap(mem); err != nil {
		return fmt.Errorf("unmap the spool: %w", err)
	}
	return nil
}
