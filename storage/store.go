// Package storage keeps time series: rows go in, MetricsQL and the Prometheus HTTP API come out.
//
// It owns the directory it opens, VictoriaMetrics' storage engine inside it, and every process-wide setting
// of that engine. All other packages see series as labels, Unix milliseconds and float64, and never the engine.
//
// It guarantees:
//
//   - [Store.Add] keeps rows in memory; they survive a crash only after a [Store.Barrier] that began later has
//     returned. A caller that needs more keeps a journal and truncates it behind the barrier.
//   - The same row added again, before or after a restart, counts once. Two different values of one series in
//     one millisecond: the larger one stays.
//   - A query sees the rows of every Add that returned before it.
//   - Several stores live in one process without seeing each other.
//   - [Rollups] of one store in another are of every series, the same however often they are computed.
//
// Package remote promises the same of a server elsewhere, by way of a queue on this disk.
//
// What it refuses: deleting, importing or writing over HTTP, rewriting queries, deciding on alerts, and
// knowing what a board is. It stores no row while the disk is nearly full and drops none in silence: rows that
// the engine will not take are counted by reason.
package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
	"github.com/prometheus/client_golang/prometheus"

	"bramble/storage/internal/lifecycle"
)

// Defaults of [Options].
const (
	// DefaultRetention is 13 months of 31 days: a year to compare with, and the month that runs.
	DefaultRetention = 13 * 31 * 24 * time.Hour
	// DefaultMinFreeBytes leaves the engine room for the merges that run when rows stop coming.
	DefaultMinFreeBytes = 100 << 20
)

// minRetention is the engine's own lower limit.
const minRetention = 24 * time.Hour

var (
	// ErrReadOnly is returned by [Store.Add] while less than Options.MinFreeBytes are free; none of the rows
	// was stored. It ends by itself within two seconds after there is room again.
	ErrReadOnly = errors.New("store is read-only: free disk space is below the limit")
	// ErrDamaged is wrapped by [Open] where files of the store are missing or damaged.
	ErrDamaged = errors.New("damaged store")
	// ErrNotOpen is returned by every method of a store from [Prepare] before [Store.Start].
	ErrNotOpen = lifecycle.ErrNotOpen
	// ErrClosed is returned by every method after [Store.Close].
	ErrClosed = lifecycle.ErrClosed
)

// Options configures [Open]; the zero value is ready for use.
type Options struct {
	// Retention is how long rows are kept, at least 24 h. 0 means DefaultRetention.
	Retention time.Duration
	// MemoryBytes limits the engine's caches. They are shared by the process: the first Open decides.
	// 0 means a quarter of the machine's or the container's memory; more than 60 % of it is cut to that.
	MemoryBytes int64
	// SeldomWritten keeps the store's own caches of series small: for one that is written a few times a day. Each store
	// of the process has its own, beside those that all share.
	SeldomWritten bool
	// MinFreeBytes is the free disk space below which Add refuses rows. 0 means DefaultMinFreeBytes.
	MinFreeBytes int64
	// FreeFiles returns how many files the process may still open. The store takes no rows and is not opened where the
	// engine might need more: it ends the process when it cannot open one. nil does without.
	FreeFiles func() int
	// Log receives the store's transitions and the engine's warnings. nil discards them.
	Log *slog.Logger
	// Registerer receives the bramble_storage_… metrics until Close. nil registers none.
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() (Options, error) {
	if o.Retention == 0 {
		o.Retention = DefaultRetention
	}
	if o.Retention < minRetention {
		return o, fmt.Errorf("retention %s is too short: at least %s is needed", o.Retention, minRetention)
	}
	if o.MemoryBytes < 0 || o.MinFreeBytes < 0 {
		return o, fmt.Errorf("memory limit %d and free-space limit %d must not be negative", o.MemoryBytes, o.MinFreeBytes)
	}
	if o.MinFreeBytes == 0 {
		o.MinFreeBytes = DefaultMinFreeBytes
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// Store is one directory of time series. All methods may be called from any goroutine.
type Store struct {
	dir     string
	id      string // picks this store among those of the process, see pick.go
	options Options
	db      *vm.Storage  // nil until it was opened
	kept    atomic.Int64 // the retention in force, a time.Duration
	log     *slog.Logger
	metrics *metrics
	handler http.Handler

	gate  lifecycle.Gate
	fresh freshness

	// writers is held shared by Add and exclusively by Barrier.
	writers sync.RWMutex
	// durable is the count of Adds that the last barrier covered; guarded by writers.
	durable uint64

	readOnly lifecycle.Transition
	reserved atomic.Bool // the reserve is there
	closeErr error       // set before the gate has closed
}

// Open opens the store in dir and creates it when there is none. It fails, naming dir, when dir is open
// already, in this process or another, or when files are missing or damaged. The caller closes the store.
// After a failure that comes from a damaged store dir can stay locked until the process ends.
func Open(dir string, o Options) (*Store, error) {
	s, err := Prepare(dir, o)
	if err != nil {
		return nil, err
	}
	if err := s.Start(0); err != nil {
		return nil, err
	}
	return s, nil
}

// Prepare returns the store of dir without opening it: every method returns [ErrNotOpen] until [Store.Start] has
// succeeded. So a collector pages while its store cannot be opened. The caller closes the store.
func Prepare(dir string, o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	s := &Store{dir: dir, options: o, log: o.Log}
	s.gate.Shut()
	s.handler = s.routes()
	s.metrics = newMetrics(s)
	s.kept.Store(int64(o.Retention))
	return s, nil
}

// retention is how long rows are kept.
func (s *Store) retention() time.Duration { return time.Duration(s.kept.Load()) }

// Start opens a store that was prepared, with a retention where that is not 0. It may be tried again after an error,
// and must not run beside itself or Close.
func (s *Store) Start(retention time.Duration) error {
	if retention != 0 {
		s.kept.Store(int64(retention))
	}
	if err := s.open(); err != nil {
		return fmt.Errorf("open store %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) open() error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	if err := checkUnlocked(s.dir); err != nil {
		return err
	}
	if err := checkFiles(s.dir); err != nil {
		return err
	}
	if err := s.yieldReserve(); err != nil {
		return err
	}
	if err := s.enoughToOpen(); err != nil {
		return err
	}
	if err := engine.acquire(s.dir, s.options); err != nil {
		return err
	}
	db, err := engine.open(s.dir, s.retention(), s.options.SeldomWritten)
	if err != nil {
		engine.release()
		return err
	}
	s.db = db
	if err := removeStaleSnapshots(db); err != nil {
		s.log.Warn("an old snapshot is not removed", "store", s.dir, "err", err)
	}
	stores.add(s)
	s.gate.Open()
	if err := s.metrics.Register(s.options.Registerer, s.metrics); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// Close makes all rows durable and releases the directory. Running queries finish or, after five seconds,
// lose their connection; later calls of any method get [ErrClosed]. Closing twice is harmless: the second
// call waits for the first. An error means that rows since the last [Store.Barrier] may be lost.
func (s *Store) Close() error {
	s.gate.Close(lifecycle.CloseGrace, s.release)
	return s.closeErr
}

// release runs once, when nobody uses the store any more.
func (s *Store) release() {
	if s.db == nil { // it was never opened
		return
	}
	defer func() {
		if p := recover(); p != nil {
			s.closeErr = fmt.Errorf("close store %s: %v", s.dir, p)
		}
		engine.release()
	}()
	s.metrics.Unregister()
	stores.remove(s)
	if err := s.yieldReserve(); err != nil {
		s.log.Warn("give up the store's reserve of disk space", "dir", s.dir, "err", err)
	}
	s.db.MustClose()
}

// IsOpen reports whether the store takes rows and answers queries.
func (s *Store) IsOpen() bool {
	if s.gate.Enter() != nil {
		return false
	}
	s.gate.Leave()
	return true
}

// Dir returns the absolute path of the store's directory.
func (s *Store) Dir() string { return s.dir }

// lockFile is the engine's lock (lib/fs.FlockFilename). The engine panics when it cannot take it.
const lockFile = "flock.lock"

// checkUnlocked reports an error when another store, here or in another process, has dir open.
func checkUnlocked(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errors.New("already open in a running process: stop it or choose another directory")
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}

// SeriesVersion rises when an older build could not open the series folder that this one writes: another format of
// the engine's files, or a second store beside them. Open takes all older ones.
const SeriesVersion = 2
