package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// reserveBytes of disk are kept in a file of their own. They are given up when a full disk leaves no room for
	// the rows that are in memory: the engine ends the process when it cannot write them.
	reserveBytes = 32 << 20
	reserveFile  = "reserve"
	// guardEvery is how often Guard looks. The engine leaves rows in memory for diskFlushInterval.
	guardEvery = time.Second
)

// freeSpace returns how many bytes are free for this user where the store is.
func (s *Store) freeSpace() (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(s.dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", s.dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// full reports whether the store must not take rows, and logs when that changes. It takes a microsecond.
func (s *Store) full() bool {
	free, err := s.freeSpace()
	full := err == nil && free < uint64(s.options.MinFreeBytes) || s.db.IsReadOnly()
	if s.readOnly.Changed(full) {
		if full {
			s.log.Warn("store is read-only, free disk space is below the limit", "dir", s.dir, "free_bytes", free, "limit_bytes", s.options.MinFreeBytes)
		} else {
			s.log.Info("store takes rows again", "dir", s.dir, "free_bytes", free)
		}
	}
	return full
}

// crammed reports whether too little is free for the engine's rows in memory.
func (s *Store) crammed() bool {
	free, err := s.freeSpace()
	return err == nil && free < engineMinFree
}

// Guard keeps the store alive on a full disk until ctx ends. As soon as the store is full it brings the rows that are
// in memory to the disk while there is room. It keeps 32 MiB in a file of the store's directory for that, gives them
// up when there is no other room, and takes them again when there is. It returns nil.
func (s *Store) Guard(ctx context.Context) error {
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	for {
		if err := s.look(); err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrNoFiles) {
			s.log.Error("guard the store's disk", "dir", s.dir, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look acts on the free space.
func (s *Store) look() error {
	if err := s.gate.Enter(); err != nil {
		return err
	}
	defer s.gate.Leave()
	free, err := s.freeSpace()
	if err != nil {
		return err
	}
	if !s.full() {
		if free >= uint64(s.options.MinFreeBytes)+2*reserveBytes {
			return s.takeReserve()
		}
		return nil
	}
	if s.volatile() == 0 {
		return nil
	}
	if err := s.yieldReserve(); err != nil {
		return err
	}
	s.writers.Lock()
	defer s.writers.Unlock()
	return s.makeDurable()
}

// takeReserve makes the reserve, where there is none.
func (s *Store) takeReserve() error {
	path := filepath.Join(s.dir, reserveFile)
	if s.reserved.Load() {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("reserve space for the store: %w", err)
	}
	defer f.Close()
	if err := allocate(f, reserveBytes); errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EOPNOTSUPP) {
		return nil // a file system without reservations: the limit alone must do
	} else if err != nil {
		return errors.Join(fmt.Errorf("reserve space for the store: %w", err), os.Remove(path))
	}
	s.reserved.Store(true)
	return nil
}

// yieldReserve gives the reserve up where less than it is free.
func (s *Store) yieldReserve() error {
	free, err := s.freeSpace()
	if err != nil || free >= reserveBytes {
		return err
	}
	s.reserved.Store(false)
	err = os.Remove(filepath.Join(s.dir, reserveFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		s.log.Warn("the store's reserve of disk space is given up", "dir", s.dir, "free_bytes", free, "reserve_bytes", reserveBytes)
	}
	return err
}

// ReadOnly reports whether the store takes no rows, for want of room on its disk.
func (s *Store) ReadOnly() bool {
	if s.gate.Enter() != nil {
		return false
	}
	defer s.gate.Leave()
	return s.full()
}

// The engine ends the process when it cannot open, write or map a file, most often in a goroutine of its own, where no
// panic can be caught. So the store looks before: at the disk, and here at the files that may be opened.
const (
	// filesPerFlush is the number of files that a flush and the merges behind it open at once, on some cores.
	filesPerFlush = 128
	// filesPerPart stay open of each part: values, timestamps and index, or items, lens and index.
	filesPerPart = 3
)

var (
	// ErrNoFiles is returned where the process may open too few files for the engine's needs.
	ErrNoFiles = errors.New("too few files may be opened: raise the limit with LimitNOFILE= or ulimit -n")
	// ErrWant is wrapped by [Store.Start] where the engine failed for want of files, memory or disk.
	ErrWant = errors.New("the engine lacks files, memory or disk")
)

// wants are parts of the engine's messages where no file is damaged, and no restore helps.
var wants = [][]byte{
	[]byte("no space left on device"), []byte("disk quota exceeded"), []byte("too many open files"), []byte("cannot allocate memory"), []byte("out of memory"),
}

// IsWant reports whether a message of the engine tells of a want of files, memory or disk rather than of damage.
func IsWant(message []byte) bool {
	for _, w := range wants {
		if bytes.Contains(message, w) {
			return true
		}
	}
	return false
}

// want returns why nothing may be handed to the engine at present, or nil.
func (s *Store) want() error {
	if s.options.FreeFiles != nil && s.options.FreeFiles() < filesPerFlush {
		return ErrNoFiles
	}
	return nil
}

// enoughToOpen returns an error where opening the store would take more files than there may be.
func (s *Store) enoughToOpen() error {
	if s.options.FreeFiles == nil {
		return nil
	}
	parts := 0
	err := filepath.WalkDir(filepath.Join(s.dir, "data"), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Name() == "metadata.json" { // one a part
			parts++
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if need, free := parts*filesPerPart+filesPerFlush, s.options.FreeFiles(); need > free {
		return fmt.Errorf("%w: it needs %d, and %d are left", ErrNoFiles, need, free)
	}
	return nil
}
