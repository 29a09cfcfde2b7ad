package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// The engine ends the process when it cannot open, write or map a file, most often in a goroutine of its own, where no
// panic can be caught. So the store looks before: at the disk (disk.go), and here at the files that may be opened.
const (
	// filesPerFlush is what a flush and the merges behind it open at once, on some cores.
	filesPerFlush = 128
	// filesPerPart stay open of each part: values, timestamps and index, or items, lens and index.
	filesPerPart = 3
)

var (
	// ErrNoFiles is returned where the process may open too few files for what the engine might need.
	ErrNoFiles = errors.New("too few files may be opened: raise the limit with LimitNOFILE= or ulimit -n")
	// ErrWant is wrapped by [Store.Start] where the engine failed for want of files, memory or disk.
	ErrWant = errors.New("the engine lacks files, memory or disk")
)

// wants are in what the engine says where no file is damaged, and no restore helps.
var wants = [][]byte{
	[]byte("no space left on device"), []byte("disk quota exceeded"), []byte("too many open files"), []byte("cannot allocate memory"), []byte("out of memory"),
}

// IsWant reports whether a message of the engine tells of a want of files, memory or disk rather than of damage.
func IsWant(message []byte) bool {
	for _, w := range wants {
		if bytes.Contains(message, w) {
			return true
		}
	}
	return false
}

// want returns why nothing may be handed to the engine at present, or nil.
func (s *Store) want() error {
	if s.options.FreeFiles != nil && s.options.FreeFiles() < filesPerFlush {
		return ErrNoFiles
	}
	return nil
}

// enoughToOpen returns an error where opening the store would take more files than there may be.
func (s *Store) enoughToOpen() error {
	if s.options.FreeFiles == nil {
		return nil
	}
	parts := 0
	err := filepath.WalkDir(filepath.Join(s.dir, "data"), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Name() == "metadata.json" { // one a part
			parts++
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if need, free := parts*filesPerPart+filesPerFlush, s.options.FreeFiles(); need > free {
		return fmt.Errorf("%w: it needs %d, and %d are left", ErrNoFiles, need, free)
	}
	return nil
}
