package backup

import (
	"fmt"

	"golang.org/x/sys/unix"

	"bramble/storage"
)

// slack is the space that a backup may need beyond the sizes that are known before it, in bytes: blocks, folders, the manifest.
const slack = 4 << 20

// checkSpace returns an error if dir has no space for so many bytes; purpose names their use in the error. On the file system of
// data it leaves the store twice the space that it needs to go on taking rows: a backup must not stop the collector.
func checkSpace(purpose, dir, data string, bytes int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("ask for free space in %s: %w", dir, err)
	}
	free, need := int64(fs.Bavail)*fs.Bsize, bytes+slack
	shared, err := sameFileSystem(dir, data)
	if err != nil {
		return err
	}
	if shared {
		need += 2 * storage.DefaultMinFreeBytes
	}
	if free < need {
		return fmt.Errorf("not enough space in %s: %s are needed for %s, %s are free: free some there, or choose another place",
			dir, size(need), purpose, size(free))
	}
	return nil
}

func sameFileSystem(a, b string) (bool, error) {
	var sa, sb unix.Stat_t
	if err := unix.Stat(a, &sa); err != nil {
		return false, fmt.Errorf("look at %s: %w", a, err)
	}
	if err := unix.Stat(b, &sb); err != nil {
		return false, fmt.Errorf("look at %s: %w", b, err)
	}
	return sa.Dev == sb.Dev, nil
}

// size shows bytes to a person.
func size(bytes int64) string {
	switch {
	case bytes >= 10<<30:
		return fmt.Sprintf("%d GiB", bytes>>30)
	case bytes >= 10<<20:
		return fmt.Sprintf("%d MiB", bytes>>20)
	default:
		return fmt.Sprintf("%d KiB", (bytes+1023)>>10)
	}
}
