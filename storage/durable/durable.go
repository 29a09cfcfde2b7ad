// Package durable puts files in place so that a crash at any moment leaves the old one or the new one,
// whole, and never a piece of either.
//
// It owns that order of system calls: a temporary file beside the old one, its content on the disk, the
// rename, the directory on the disk. It decides neither modes nor owners, and keeps nothing.
package durable

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// Replace puts a file in the place of path, with the content that write gives it, and mode 0600. With an
// error the old file is as it was, unless the disk refused the last step, the directory's own sync.
// Temporary files are named after path with a dot before it; a crash may leave one.
func Replace(path string, write func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the rename
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir returns when the names in a directory are on the disk.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
