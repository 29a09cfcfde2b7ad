// Package descriptors divides the files and connections that the process may
// have open (RLIMIT_NOFILE). The store, the state database, the journal, pages
// and browsers come first: boards get the rest. It opens nothing itself, but
// ends connections of browsers beyond their share.
package descriptors

import (
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// PerBoard is how many descriptors a board's connection takes: the board's own,
// and both ends of the one between the door and the message server.
const PerBoard = 3

// Shares of the limit. The store opens some hundred files at once when it merges
// and flushes on several cores; its files that stay open are counted, not guessed.
const (
	reserveShare, minReserve, maxReserve = 8, 256, 8192
	webShare, minWeb, maxWeb             = 16, 64, 8192
)

// maxLimit is how many descriptors are reckoned with where there is no limit.
const maxLimit = 1 << 20

// countEvery is how old the count of [Budget.Free] may be: older kernels list
// a folder for it, with an entry a descriptor.
const countEvery = time.Second

// Budget is the process's. It is safe for concurrent use.
type Budget struct {
	limit, reserve, web int
	webOpen             atomic.Int32

	mu      sync.Mutex
	open    int
	counted time.Time
}

// New reads the limit, which the Go runtime has raised to the hard one.
func New() (*Budget, error) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return nil, fmt.Errorf("read the limit of open files: %w", err)
	}
	if _, err := count(); err != nil {
		return nil, err
	}
	return share(int(min(r.Cur, maxLimit))), nil
}

func share(limit int) *Budget {
	return &Budget{
		limit:   limit,
		reserve: min(max(limit/reserveShare, minReserve), maxReserve),
		web:     min(max(limit/webShare, minWeb), maxWeb),
	}
}

// Limit is how many descriptors the process may have open.
func (b *Budget) Limit() int { return b.limit }

// Free is how many the process may still open, as of at most a second ago.
func (b *Budget) Free() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.counted) > countEvery {
		n, err := count()
		if err != nil { // /proc was there at the start: there is no descriptor left to list it
			n = b.limit
		}
		b.open, b.counted = n, time.Now()
	}
	return b.limit - b.open
}

// Boards is for how many connections of boards the limit is enough, of which
// there are some already.
func (b *Budget) Boards(connected int) int {
	others := b.limit - b.Free() - PerBoard*connected - int(b.webOpen.Load())
	return max(0, (b.limit-b.reserve-b.web-max(0, others))/PerBoard)
}

// count returns how many descriptors are open. Linux 6.2 and later say it as the
// size of a folder.
func count() (int, error) {
	const folder = "/proc/self/fd"
	info, err := os.Stat(folder)
	if err == nil && info.Size() > 0 {
		return int(min(info.Size(), math.MaxInt32)), nil
	}
	names, err := readNames(folder)
	if err != nil {
		return 0, fmt.Errorf("count open files: %w", err)
	}
	return len(names) - 1, nil // without the folder itself
}

func readNames(folder string) ([]string, error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}
