package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Unfinished folders in a target begin with a dot and end with one of these.
const (
	partial = ".partial" // a backup that is being written
	scratch = ".scratch" // a test restore
)

// ErrNone is wrapped where no backup answers a description.
var ErrNone = errors.New("no such backup")

// Entry is one backup in a target. Where Err is not nil it cannot be used and Manifest may be nil.
type Entry struct {
	Name, Dir string
	Manifest  *Manifest
	Err       error
}

// Good reports whether the entry was restored successfully when it was last tried.
func (e *Entry) Good() bool { return e.Err == nil && e.Manifest.Good() }

// Result says in a few words what is known of the entry.
func (e *Entry) Result() string {
	switch {
	case e.Err != nil:
		return "damaged: " + e.Err.Error()
	case e.Manifest.Test == nil:
		return "never tested"
	case e.Manifest.Test.Error != "":
		return "bad: " + e.Manifest.Test.Error
	}
	return "good"
}

// List returns the backups of a target, the newest first. A target that is not there holds none.
func List(target string) ([]Entry, error) {
	found, err := os.ReadDir(target)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	var all []Entry
	for _, f := range found {
		if !f.IsDir() || !validName(f.Name()) {
			continue
		}
		all = append(all, open(filepath.Join(target, f.Name())))
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(b.Name, a.Name) })
	return all, nil
}

// List returns the backups of the keeper's target, the newest first.
func (k *Keeper) List() ([]Entry, error) { return List(k.config.Target) }

// open reads the entry in a folder.
func open(dir string) Entry {
	e := Entry{Name: filepath.Base(dir), Dir: dir}
	if e.Manifest, e.Err = readManifest(dir); e.Err == nil && e.Manifest.Name != e.Name {
		e.Err = fmt.Errorf("its folder is named %s, its manifest %s: give the folder its name back", e.Name, e.Manifest.Name)
	}
	return e
}

// Find returns the backup that a name or the path of its folder describes. Without a name it is the newest good one
// that was not taken after a point in time; the zero point is the end of time.
func Find(target, name string, point time.Time) (Entry, error) {
	if strings.ContainsRune(name, filepath.Separator) {
		return named(filepath.Clean(name))
	}
	if name != "" {
		if !validName(name) {
			return Entry{}, fmt.Errorf("backup %q: %w: `collector backup list` shows the names, such as %s", name, ErrNone, nameLayout)
		}
		return named(filepath.Join(target, name))
	}
	all, err := List(target)
	if err != nil {
		return Entry{}, err
	}
	for _, e := range all {
		if e.Good() && (point.IsZero() || !e.Manifest.Taken.After(point)) {
			return e, nil
		}
	}
	if !point.IsZero() {
		return Entry{}, fmt.Errorf("%w: none in %s that restores was taken by %s", ErrNone, target, point.UTC().Format(time.RFC3339))
	}
	return Entry{}, fmt.Errorf("%w: %s holds none that is known to restore: `collector backup list` shows all", ErrNone, target)
}

func named(dir string) (Entry, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return Entry{}, fmt.Errorf("backup %s: %w in %s: `collector backup list` shows the names", filepath.Base(dir), ErrNone, filepath.Dir(dir))
	}
	return open(dir), nil
}

// lock takes a target for this process.
func lock(target string) (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(target, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, explain(fmt.Errorf("lock the backups' target: %w", err))
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock the backups' target %s: another backup or test is running there: wait for it", target)
		}
		return nil, fmt.Errorf("lock the backups' target: %w", err)
	}
	return func() { f.Close() }, nil
}

// sweep removes what killed processes have left. The caller holds the target's lock.
func sweep(target string) error {
	found, err := os.ReadDir(target)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range found {
		rest, hidden := strings.CutPrefix(f.Name(), ".")
		name, isPartial := strings.CutSuffix(rest, partial)
		name, isScratch := strings.CutSuffix(name, scratch)
		if hidden && (isPartial || isScratch) && validName(name) {
			errs = append(errs, os.RemoveAll(filepath.Join(target, f.Name())))
		}
	}
	return errors.Join(errs...)
}

// remove deletes a backup. Its manifest goes first: what is left of a removal that was cut short is no backup.
func remove(dir string) error {
	if err := os.Remove(filepath.Join(dir, manifestName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	hidden := filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+partial)
	if err := os.Rename(dir, hidden); err != nil {
		return err
	}
	return os.RemoveAll(hidden)
}
