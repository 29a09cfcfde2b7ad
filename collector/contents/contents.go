// Package contents records which parts a data directory has, so that a part that vanished is told from one that never was: an unmounted
// disk, a folder that was emptied, a write-ahead log that was deleted or cut.
//
// It owns the file contents.json. The collector writes it once its parts are open and when it has closed them; a start checks it before
// anything is opened. A directory without the file passes: nothing is known of it. To go on without a part that is lost, remove the
// file.
package contents

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"bramble/storage/durable"
)

// Name is the file in a data directory.
const Name = "contents.json"

// LostError is returned by Check where a part is missing or empty, or the record of the parts cannot be read.
type LostError struct {
	// Name is the part's path in the data directory.
	Name string
	text string
}

// Error implements error.
func (e *LostError) Error() string { return "damaged data directory: " + e.text }

// Contents are the parts of a data directory, by their paths in it. The zero value has none.
type Contents struct {
	// Folders hold at least one file each that is not empty, at any depth.
	Folders []string `json:"folders"`
	// Files exist, and may be empty.
	Files []string `json:"files"`
	// Changes is the number of the registry's newest change; see registry.Registry.Changes.
	Changes int64 `json:"changes"`
}

// Write records the parts of a directory, durably. Nothing is written where they are recorded already.
func Write(dir string, c Contents) error {
	if was, err := Read(dir); err == nil && slices.Equal(was.Folders, c.Folders) && slices.Equal(was.Files, c.Files) && was.Changes == c.Changes {
		return nil
	}
	text, err := json.Marshal(c)
	if err == nil {
		err = durable.Replace(filepath.Join(dir, Name), func(f *os.File) error { _, err := f.Write(text); return err })
	}
	if err != nil {
		return fmt.Errorf("record the parts of %s: %w", dir, err)
	}
	return nil
}

// With returns the folders among these that have content.
func With(dir string, folders ...string) (out []string, err error) {
	for _, name := range folders {
		has, err := hasContent(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("look at the parts of %s: %w", dir, err)
		}
		if has {
			out = append(out, name)
		}
	}
	return out, nil
}

// Read returns the recorded parts of a directory, none where nothing is recorded. The error may be a LostError.
func Read(dir string) (c Contents, err error) {
	text, err := os.ReadFile(filepath.Join(dir, Name))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read the parts of %s: %w", dir, err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, &LostError{Name, fmt.Sprintf("file %s cannot be read: %v; remove it to go on without its check", filepath.Join(dir, Name), err)}
	}
	return c, nil
}

// Check returns a LostError where a recorded part is missing or empty. It changes nothing.
func Check(dir string) error {
	c, err := Read(dir)
	if err != nil {
		return err
	}
	for _, name := range c.Folders {
		switch has, err := hasContent(filepath.Join(dir, name)); {
		case err != nil:
			return fmt.Errorf("look at the parts of %s: %w", dir, err)
		case !has:
			return lost(dir, name, "folder %s is missing or empty, and it had content when the collector last ran: is its disk mounted?")
		}
	}
	for _, name := range c.Files {
		if _, err := os.Lstat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			return lost(dir, name, "file %s is missing, and it was there when the collector last ran")
		} else if err != nil {
			return fmt.Errorf("look at the parts of %s: %w", dir, err)
		}
	}
	return nil
}

func lost(dir, name, what string) error {
	return &LostError{name, fmt.Sprintf(what, filepath.Join(dir, name)) + "; to go on without it, remove " + filepath.Join(dir, Name)}
}

// hasContent reports whether a folder holds a file that is not empty.
func hasContent(dir string) (has bool, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Size() > 0 {
			has = true
			return fs.SkipAll
		}
		return err
	})
	return has, err
}
