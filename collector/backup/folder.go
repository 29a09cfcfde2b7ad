package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"bramble/storage/durable"
)

// folder is a directory with backups. Unfinished ones begin with a dot.
type folder struct {
	path    string
	mayMake bool // it is made where it is missing
}

func (f folder) scratch() string { return f.path }

func (f folder) at(name string) shelf { return folderShelf(filepath.Join(f.path, name)) }

// holds reports whether there is a folder of a name, with or without a manifest.
func (f folder) holds(name string) bool {
	_, err := os.Stat(filepath.Join(f.path, name))
	return err == nil
}

func (f folder) list(context.Context) (names []string, err error) {
	found, err := os.ReadDir(f.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	for _, d := range found {
		if d.IsDir() && validName(d.Name()) {
			names = append(names, d.Name())
		}
	}
	return names, nil
}

// take locks the folder.
func (f folder) take(context.Context) (release func(), err error) {
	if f.mayMake {
		if err := os.MkdirAll(f.path, 0o700); err != nil {
			return nil, explain(fmt.Errorf("open the backups' target: %w", err))
		}
	} else if _, err := os.Stat(f.path); err != nil {
		return nil, fmt.Errorf("open the backups' target: %w: is its disk mounted? A new one is made once, with mkdir", err)
	}
	return lock(f.path)
}

func (f folder) sweep(context.Context) error { return sweep(f.path) }

func (f folder) begin(_ context.Context, name string) (draft, error) {
	d := folderDraft{hidden: filepath.Join(f.path, "."+name+partial), to: filepath.Join(f.path, name)}
	return d, explain(os.Mkdir(d.hidden, 0o700))
}

func (f folder) remove(_ context.Context, name string) error {
	dir := filepath.Join(f.path, name)
	if err := os.Remove(filepath.Join(dir, manifestName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	hidden := filepath.Join(f.path, "."+name+partial)
	if err := os.Rename(dir, hidden); err != nil {
		return err
	}
	return os.RemoveAll(hidden)
}

// folderDraft is a hidden folder beside the backups.
type folderDraft struct{ hidden, to string }

func (d folderDraft) dir() string { return d.hidden }

func (d folderDraft) series(ctx context.Context, c *copier, from, name string) (FileSum, error) {
	return c.copyFile(ctx, from, filepath.Join(d.hidden, filepath.FromSlash(name)))
}

// publish brings everything to disk before the manifest, and the manifest before the folder has its name.
func (d folderDraft) publish(ctx context.Context, m *Manifest) error {
	if err := syncTree(d.hidden); err != nil {
		return err
	}
	if err := m.write(ctx, folderShelf(d.hidden)); err != nil {
		return explain(err)
	}
	if err := inheritTree(d.hidden); err != nil {
		return err
	}
	if err := os.Rename(d.hidden, d.to); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(d.to))
}

func (d folderDraft) discard() error { return os.RemoveAll(d.hidden) }

// folderShelf is the folder of one backup.
type folderShelf string

func (s folderShelf) String() string { return string(s) }

func (s folderShelf) open(_ context.Context, name string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(s), filepath.FromSlash(name)))
}

func (s folderShelf) write(_ context.Context, name string, data []byte) error {
	return writeFile(filepath.Join(string(s), name), data)
}

// lock takes a target for this process.
func lock(target string) (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(target, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, explain(fmt.Errorf("lock the backups' target: %w", err))
	}
	if err := inherit(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the backups' target: %w", err), f.Close())
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

// sweep removes the remains of killed processes. The caller holds the target's lock.
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
