// Package descriptors divides the files and connections that the process may
// have open (RLIMIT_NOFILE). The store, the state database, the journal, pages
// and browsers come first: boards get the rest. It opens nothing itself, but
// ends connections of browsers beyond their share.
package descriptors

import (
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// PerBoard is how many descriptors a board's connection takes: its socket.
const PerBoard = 1

// Shares of the limit. The store opens some hundred files at once when it merges
// and flushes on several cores; its files that stay open are counted, not guessed.
const (
	reserveShare, minReserve, maxReserve = 8, 256, 8192
	webShare, minWeb, maxWeb             = 16, 64, 8192
)

// least is the limit below which the collector does not start: the reserves of the store and of browsers, and some 110 files and sockets
// of its own.
const least = 512

// maxLimit is the number of descriptors that is assumed where there is no limit, or none is known.
const maxLimit = 1 << 20

// countEvery is how old the count of [Budget.Free] may be: older kernels list
// a folder for it, with an entry a descriptor.
const countEvery = time.Second

// counts is the number of counts whose minimum is taken for the files open beside the boards' connections: while many
// boards come or go at once a single count is off.
const counts = 5

// Budget is the process's. It is safe for concurrent use.
type Budget struct {
	limit, reserve, web int
	count               func() (int, error) // of open files
	webOpen             atomic.Int32

	mu      sync.Mutex
	open    int // as of counted
	counted time.Time
	others  []int // the last counts
}

// New reads the limit, which the Go runtime has raised to the hard one. Where the system does not say it, or does not
// count, there is none.
func New() *Budget {
	var r syscall.Rlimit
	_, err := countOpen()
	if err != nil || syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return share(maxLimit, func() (int, error) { return 0, nil })
	}
	return share(int(min(r.Cur, maxLimit)), countOpen)
}

func share(limit int, count func() (int, error)) *Budget {
	return &Budget{
		limit:   limit,
		count:   count,
		reserve: min(max(limit/reserveShare, minReserve), maxReserve),
		web:     min(max(limit/webShare, minWeb), maxWeb),
	}
}

// Check refuses a limit under which the collector would only seem to run.
func (b *Budget) Check() error {
	if b.limit >= least {
		return nil
	}
	return fmt.Errorf("the process may have %d files open, and the collector needs %d, and one more for each board beyond some 80: raise the limit with "+
		"LimitNOFILE= in the service file, or ulimit -n", b.limit, least)
}

// Limit is how many descriptors the process may have open.
func (b *Budget) Limit() int { return b.limit }

// Free is how many the process may still open, as of at most a second ago.
func (b *Budget) Free() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.counted) > countEvery {
		b.recount()
	}
	return b.limit - b.open
}

// recount counts the open files. The caller holds mu.
func (b *Budget) recount() {
	n, err := b.count()
	if err != nil { // it went at the start: there is no descriptor left to count with
		n = b.limit
	}
	b.open, b.counted = n, time.Now()
}

// Boards returns how many board connections the limit allows in total, given that some are open already.
func (b *Budget) Boards(connected int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.recount()
	b.others = append(b.others, max(0, b.open-PerBoard*connected-int(b.webOpen.Load())))
	b.others = b.others[max(0, len(b.others)-counts):]
	return max(0, (b.limit-b.reserve-b.web-slices.Min(b.others))/PerBoard)
}

// countOpen returns how many descriptors are open. Linux 6.2 and later say it as the
// size of a folder.
func countOpen() (int, error) {
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
