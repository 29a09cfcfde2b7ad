package journal

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"syscall"
	"time"

	"bramble/collector/diskspace"
)

const (
	// reserve is the space behind a segment's end that is the file's already. It is kept for
	// records that cannot come again: transitions of alerts, some 2 KiB each.
	reserve = 16 << 20
	// reserveStep is by how much it grows at a time.
	reserveStep = 4 << 20
	// minFree is the free space below which readings are left to their sensors: the rest is for the
	// state database and for the store's last flush.
	minFree = 48 << 20
)

// secure keeps the reserve, and notes whether more than that is left, and whether
// the segments hold too much.
func (j *Journal) secure() {
	low := enough(j.dir)
	if low == nil {
		low = j.segment.reserve()
	}
	j.mu.Lock()
	was := errors.Join(j.low, j.long)
	j.low, j.long = low, nil
	if j.held > j.limit {
		j.long = fmt.Errorf("the journal %s holds %d MiB that the store has not taken, %d MiB are the most: a start would take too long", filepath.Clean(j.dir), j.held>>20, j.limit>>20)
	}
	err := errors.Join(j.low, j.long)
	j.mu.Unlock()
	switch {
	case err != nil && was == nil:
		j.log.Error("journal: readings are not taken, sensors keep them; alerts and pages go on", "err", err)
	case err == nil && was != nil:
		j.log.Info("journal: readings are taken again")
	}
}

// lookAgain ticks when the disk was full and is to be looked at again.
func (j *Journal) lookAgain() <-chan time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.low == nil {
		return nil
	}
	return time.After(retry)
}

// enough returns an error where the disk is nearly full.
func enough(dir string) error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return nil // unknown: a failed write will show it
	}
	if free := s.Bavail * uint64(s.Bsize); free < minFree {
		return fmt.Errorf("disk of %s: %d MiB are free, %d MiB are needed", filepath.Clean(dir), free>>20, minFree>>20)
	}
	return nil
}

// reserve makes sure that the reserve lies behind the segment's end. Where the file system has no
// reservations there is none, and a failed write shows that the disk is full.
func (s *segment) reserve() error {
	if s.reserved-s.Size >= reserve {
		return nil
	}
	want := s.Size + reserve + reserveStep
	known, err := diskspace.Take(s.File.File, s.Size, want-s.Size)
	if err != nil {
		return fmt.Errorf("reserve space for the journal: %w", err)
	}
	if s.reserved = want; !known {
		s.reserved = math.MaxInt64
	}
	return nil
}
