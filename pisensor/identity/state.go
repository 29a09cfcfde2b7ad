// Package identity is who a board is to its collector: a key made on the board,
// and the name and address that enrolment gave it. It owns both on the board's
// disk, and asking to be enrolled. A daemon only reads them.
package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nkeys"

	"bramble/pisensor/report"
)

// Files of the state directory.
const (
	KeyFile       = "board.nk"       // the board's nkey seed, readable by its owner only
	EnrolmentFile = "enrolment.json" // the collector's answer to the enrolment
)

// nextKeyFile is the key with which a renewal has begun. It takes KeyFile's place when the collector
// has taken it.
const nextKeyFile = "board.nk.new"

// Enrolment identifies a board's collector. The zero value is that of a board that is not enrolled.
type Enrolment struct {
	URL   string `json:"url"`
	Board string `json:"board"` // the name under which the collector knows it
	Pin   string `json:"pin"`   // report.Pin of the collector's CA
}

// ErrNotEnrolled is wrapped by Load where the directory holds no enrolment.
var ErrNotEnrolled = errors.New("this board is not enrolled")

// errNoSeed is wrapped where the key's file is empty, as a file system can leave
// it after a power cut. There is nothing in it to lose.
var errNoSeed = errors.New("the file is empty")

// Load reads a board's enrolment and key from its state directory.
func Load(dir string) (Enrolment, nkeys.KeyPair, error) {
	e, err := loadEnrolment(dir)
	if err != nil {
		return e, nil, err
	}
	key, err := loadKey(dir, KeyFile)
	return e, key, err
}

func loadEnrolment(dir string) (e Enrolment, err error) {
	path := filepath.Join(dir, EnrolmentFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return e, fmt.Errorf("%w (%s is missing): run `pisensor enrol URL TOKEN` first", ErrNotEnrolled, path)
	}
	if err != nil {
		return e, fmt.Errorf("read enrolment: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return e, fmt.Errorf("enrolment %s: %w: enrol again", path, err)
	}
	if err := report.ValidateBoard(e.Board); err != nil {
		return e, fmt.Errorf("enrolment %s: %w: enrol again", path, err)
	}
	return e, nil
}

func loadKey(dir, name string) (nkeys.KeyPair, error) {
	path := filepath.Join(dir, name)
	seed, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the board's key: %w", err)
	}
	if seed = bytes.TrimSpace(seed); len(seed) == 0 {
		return nil, fmt.Errorf("the board's key %s: %w: enrol again", path, errNoSeed)
	}
	key, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("the board's key %s: %w: remove it and enrol again", path, err)
	}
	if public, err := key.PublicKey(); err != nil || !nkeys.IsValidPublicUserKey(public) {
		return nil, fmt.Errorf("the board's key %s is not a user's: remove it and enrol again", path)
	}
	return key, nil
}

// Where the key of an enrolment comes from.
const (
	keyKept    = iota // it is the board's, or its first one
	keyPending        // a renewal was cut short, which may have reached the collector
	keyMade           // a renewal has begun with it just now
)

// keyToEnrol returns the key to ask with.
func keyToEnrol(dir string, renew bool) (nkeys.KeyPair, int, error) {
	key, err := loadKey(dir, nextKeyFile)
	switch {
	case err == nil:
		return key, keyPending, nil
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNoSeed):
		return nil, 0, err
	}
	if _, err := os.Stat(filepath.Join(dir, KeyFile)); err == nil && renew {
		key, err = ensureKeyFile(dir, nextKeyFile)
		return key, keyMade, err
	}
	key, err = ensureKey(dir)
	return key, keyKept, err
}

// ensureKey returns the board's key, made on the board if it has none.
func ensureKey(dir string) (nkeys.KeyPair, error) { return ensureKeyFile(dir, KeyFile) }

// ensureKeyFile returns the key in a file, made where there is none.
func ensureKeyFile(dir, name string) (nkeys.KeyPair, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	key, err := loadKey(dir, name)
	switch {
	case errors.Is(err, errNoSeed):
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("replace the board's empty key: %w", err)
		}
	case err == nil || !errors.Is(err, fs.ErrNotExist):
		return key, err
	}
	if key, err = nkeys.CreateUser(); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	seed, err := key.Seed()
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	// Two enrolments at once, of a service and a person, use the first one's key.
	err = writeFile(dir, name, append(seed, '\n'), false)
	if errors.Is(err, fs.ErrExist) {
		return loadKey(dir, name)
	}
	return key, err
}

// Save keeps the enrolment in a state directory, as a whole or not at all.
func (e Enrolment) Save(dir string) error {
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("encode enrolment: %w", err)
	}
	return writeFile(dir, EnrolmentFile, append(b, '\n'), true)
}

// writeFile puts a whole file in place, or leaves everything as it was. Where
// there is one and replace is not set, the error is fs.ErrExist. Only the owner
// can read it, and that is the directory's: root enrols, and the daemon, which
// is somebody else, reads.
func writeFile(dir, name string, b []byte, replace bool) (err error) {
	f, err := os.CreateTemp(dir, "."+name+"-*") // with mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", name, err), ignoreMissing(os.Remove(f.Name())))
		}
	}()
	_, err = f.Write(b)
	if err = errors.Join(err, giveToOwner(f, dir), f.Sync(), f.Close()); err != nil {
		return err
	}
	return place(f.Name(), filepath.Join(dir, name), replace)
}

// place gives a file its name. File systems without hard links, such as FAT,
// cannot do that without replacing.
func place(from, to string, replace bool) error {
	if !replace {
		err := os.Link(from, to)
		if err == nil {
			return os.Remove(from)
		}
		if errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return os.Rename(from, to)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
