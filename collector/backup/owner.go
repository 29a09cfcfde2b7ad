package backup

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// inherit gives an entry that root has made to the owner of its directory: the service that keeps data or backups there
// must be able to read them. Links are not followed.
func inherit(path string) error { return inheritFrom(filepath.Dir(path), path) }

// inheritTree gives all of a tree to the owner of the directory that it stands in.
func inheritTree(root string) error {
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return inheritFrom(filepath.Dir(root), path)
	})
}

func inheritFrom(dir, path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	return os.Lchown(path, int(owner.Uid), int(owner.Gid))
}
