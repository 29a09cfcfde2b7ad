package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
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
	if s.readOnly.changed(full) {
		if full {
			s.log.Warn("store is read-only, free disk space is below the limit", "dir", s.dir, "free_bytes", free, "limit_bytes", s.options.MinFreeBytes)
		} else {
			s.log.Info("store takes rows again", "dir", s.dir, "free_bytes", free)
		}
	}
	return full
}

// crammed reports whether too little is free for what the engine has in memory.
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

// look does what the free space asks for.
func (s *Store) look() error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
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
	if s.gate.enter() != nil {
		return false
	}
	defer s.gate.leave()
	return s.full()
}

// transition remembers a state, so that only its changes are logged. The zero value is false.
type transition struct{ state atomic.Bool }

func (t *transition) changed(to bool) bool {
	return t.state.Load() != to && t.state.CompareAndSwap(!to, to)
}
