package storage

import (
	"sync/atomic"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/fs"
)

// full reports whether the store must not take rows, and logs when that changes. The engine reads the free
// space once a second at most.
func (s *Store) full() bool {
	free := fs.MustGetFreeSpace(s.dir)
	full := free < uint64(s.options.MinFreeBytes) || s.db.IsReadOnly()
	if s.readOnly.changed(full) {
		if full {
			s.log.Warn("store is read-only, free disk space is below the limit", "dir", s.dir, "free_bytes", free, "limit_bytes", s.options.MinFreeBytes)
		} else {
			s.log.Info("store takes rows again", "dir", s.dir, "free_bytes", free)
		}
	}
	return full
}

// transition remembers a state, so that only its changes are logged. The zero value is false.
type transition struct{ state atomic.Bool }

func (t *transition) changed(to bool) bool {
	return t.state.Load() != to && t.state.CompareAndSwap(!to, to)
}
