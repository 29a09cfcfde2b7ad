package identity

import (
	"fmt"
	"os"
	"syscall"
)

// giveToOwner makes a file the directory owner's, where root writes it.
func giveToOwner(f *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	if owner.Uid == 0 {
		return nil
	}
	if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
		return fmt.Errorf("give it to the owner of %s: %w", dir, err)
	}
	return nil
}
