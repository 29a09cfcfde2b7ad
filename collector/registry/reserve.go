package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"bramble/collector/diskspace"
)

const (
	// reserveBytes of disk lie behind the end of the database and of its log, and
	// are theirs already: a page can be recorded, and therefore leave, where no
	// byte is free. SQLite writes its log from the start again after each 4 MB.
	reserveBytes = 8 << 20
	// reserveAgain is how little may be left before more is taken.
	reserveAgain = 4 << 20
	// emptyFree is the free space of a disk from which on the log is emptied, which gives its reserve away for a moment.
	emptyFree = 8 * reserveBytes
)

// Reserve keeps disk space for the state database that nobody else can take. It
// is safe for concurrent use.
type Reserve struct {
	path string

	mu    sync.Mutex
	files [2]*holding // the database and its log; nil = not open
}

type holding struct {
	*os.File
	upTo int64 // where the space ends that is the file's
}

// NewReserve returns a reserve for the database at path. The caller closes it
// after the database: to close a file of it before would take SQLite's locks away.
func NewReserve(path string) *Reserve { return &Reserve{path: path} }

// Keep fills the reserve up. Call it after the database was opened, and periodically. It fails on a disk that is full
// already; file systems without reservations have none.
func (r *Reserve) Keep() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for i, path := range []string{r.path, r.path + "-wal"} {
		if err := r.keep(&r.files[i], path, i == 0); err != nil {
			errs = append(errs, fmt.Errorf("reserve disk space for %s: %w", path, err))
		}
	}
	return errors.Join(errs...)
}

// Checkpoint copies the log's pages into the database, so that little is lost with a damaged log, and empties the log
// where the disk is not nearly full. It waits for nobody: pages in use stay for the next call. Call [Reserve.Keep] after
// it.
func (r *Reserve) Checkpoint(ctx context.Context) error {
	info, err := os.Stat(r.path + "-wal")
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	db, err := openAlone(r.path, "rw")
	if err != nil {
		return fmt.Errorf("checkpoint %s: %w", r.path, err)
	}
	_, err = checkpoint(ctx, db, "PASSIVE") // the writes and fsyncs, during which others may write
	if err == nil && hasSpace(r.path) {
		r.mu.Lock()
		defer r.mu.Unlock()
		var emptied bool
		if emptied, err = checkpoint(ctx, db, "TRUNCATE"); emptied && r.files[1] != nil {
			r.files[1].upTo = 0
		}
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("checkpoint %s: %w", r.path, err)
	}
	return nil
}

// checkpoint reports whether nobody was in the way.
func checkpoint(ctx context.Context, db *sql.DB, mode string) (done bool, err error) {
	var busy, frames, moved int
	err = db.QueryRowContext(ctx, `PRAGMA wal_checkpoint(`+mode+`)`).Scan(&busy, &frames, &moved)
	return err == nil && busy == 0, err
}

func hasSpace(path string) bool {
	var s syscall.Statfs_t
	return syscall.Statfs(path, &s) == nil && s.Bavail*uint64(s.Bsize) >= emptyFree
}

func (r *Reserve) keep(f **holding, path string, forEver bool) error {
	if err := reopen(f, path, forEver); err != nil || *f == nil {
		return err
	}
	info, err := (*f).Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if (*f).upTo-size >= reserveAgain {
		return nil
	}
	known, err := diskspace.Take((*f).File, size, reserveBytes)
	if known {
		(*f).upTo = size + reserveBytes
	}
	return err
}

// reopen opens the file, again where SQLite has made it anew. nil means that
// there is none.
func reopen(f **holding, path string, forEver bool) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if *f != nil {
		if forEver {
			return nil
		}
		if old, err := (*f).Stat(); err == nil && os.SameFile(old, info) {
			return nil
		}
		_ = (*f).Close() // nothing was written
		*f = nil
	}
	opened, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	*f = &holding{File: opened}
	return nil
}

// Close gives nothing back: unused reserved space stays with the files.
func (r *Reserve) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for i, f := range r.files {
		if f != nil {
			errs = append(errs, f.Close())
			r.files[i] = nil
		}
	}
	return errors.Join(errs...)
}
