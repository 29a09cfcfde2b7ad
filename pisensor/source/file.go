package source

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// lookAgain is how many reads pass at most before a missing source is looked for again: a driver
// may load late. At the default rate it is some 40 min. A look costs as much as three ticks, since
// opening a file may block.
const lookAgain = 256

// Retry spaces the attempts to find something: the first at once, then after
// 1, 2, 4 … lookAgain reads. The zero value is ready.
type Retry struct{ wait, gap int }

// Due reports whether it is time for an attempt.
func (r *Retry) Due() bool {
	r.wait--
	return r.wait < 0
}

// Failed takes note of an attempt in vain.
func (r *Retry) Failed() {
	r.gap = min(max(2*r.gap, 1), lookAgain)
	r.wait = r.gap
}

// Waits reports whether the next Due will be false.
func (r *Retry) Waits() bool { return r.wait > 0 }

// Found takes note of success.
func (r *Retry) Found() { *r = Retry{} }

// File is a file of the kernel. Where it really is the kernel's it stays open;
// in a plain directory, whose files may be replaced, it is opened for each
// read. Nothing in it waits where the kernel does not: a pipe without a writer
// is empty.
type File struct {
	paths func() []string
	path  string // the file that was opened last
	fd    int
	open  bool
	plain bool // it was found in a plain directory
	retry Retry

	prompt prompt
}

// NewFile returns a file that is the first of the paths that can be opened.
// paths is asked again whenever the file has to be found; it may look around.
// Nothing is opened before the first read.
func NewFile(paths func() []string) *File { return &File{paths: paths} }

// NewSlowFile returns a file for which the kernel may wait for somebody without
// a limit of its own.
func NewSlowFile(paths func() []string) *File { return &File{paths: paths, prompt: prompt{slow: true}} }

// At returns fixed paths for NewFile.
func At(paths ...string) func() []string { return func() []string { return paths } }

// Path returns the path that was opened last.
func (f *File) Path() string { return f.path }

// Kernel reports whether the file is open and the kernel's own.
func (f *File) Kernel() bool { return f.open && !f.plain }

// Prompt reports whether the next read answers at once: the file is the kernel's
// and open, or was not there a short while ago. It is Prompt's.
func (f *File) Prompt() bool {
	if !f.open {
		return f.retry.Waits()
	}
	return !f.plain && !f.prompt.slow
}

// Read reads once from the file's beginning, as much as fits: enough for a
// file of the kernel that comes in one piece, or for its beginning.
func (f *File) Read(scratch []byte) ([]byte, error) {
	return f.read(scratch, false)
}

// ReadAll reads the whole file. One that does not fit is an error.
func (f *File) ReadAll(scratch []byte) ([]byte, error) {
	return f.read(scratch, true)
}

func (f *File) read(scratch []byte, all bool) ([]byte, error) {
	if !f.open {
		if err := f.find(); err != nil {
			return nil, err
		}
	}
	n, err := f.pread(scratch, all)
	if err != nil {
		err = &fs.PathError{Op: "read", Path: f.path, Err: err}
	}
	if f.plain || gone(err) {
		err = errors.Join(err, f.Close())
	}
	return scratch[:n], err
}

// pread reads from the open file's beginning, promptly where it may.
func (f *File) pread(scratch []byte, all bool) (int, error) {
	if f.plain {
		return pread(&prompt{slow: true}, f.fd, scratch, all)
	}
	return pread(&f.prompt, f.fd, scratch, all)
}

// pread reads on until the file's end where all of it is wanted: the kernel
// hands out long files in pieces.
func pread(p *prompt, fd int, scratch []byte, all bool) (int, error) {
	interrupted := 0
	for n := 0; ; {
		more, err := p.pread(fd, scratch[n:], n)
		if err != nil {
			if interrupted++; errors.Is(err, unix.EINTR) && interrupted <= maxInterrupted {
				continue
			}
			return n, err
		}
		n += more
		switch {
		case !all || more == 0:
			return n, nil
		case n == len(scratch):
			return n, fmt.Errorf("longer than %d bytes", n)
		}
	}
}

// maxInterrupted is how often is tried again where a signal came in between. The
// runtime sends some; more are a device that cannot be read.
const maxInterrupted = 2

// gone reports that a file's device is not there any more.
func gone(err error) bool {
	return err != nil && (errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ESTALE))
}

// find opens the first of the paths that can be opened.
func (f *File) find() error {
	if !f.retry.Due() {
		return ErrAbsent
	}
	found := ErrAbsent
	for _, path := range f.paths() {
		fd, err := openFile(path)
		if err == nil {
			f.path, f.fd, f.open, f.plain = path, fd, true, !fromKernel(fd)
			f.retry.Found()
			return nil
		}
		if errors.Is(found, ErrAbsent) && !errors.Is(err, fs.ErrNotExist) {
			found = err
		}
	}
	if !f.plain {
		f.retry.Failed()
	}
	return found
}

// openFile opens a file without waiting for anybody at its other end. A path
// that leads nowhere is fs.ErrNotExist.
func openFile(path string) (int, error) {
	fd, err := -1, error(unix.EINTR)
	for range 1 + maxInterrupted {
		if fd, err = unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.ENOTDIR) {
		err = unix.ENOENT
	}
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// Close closes the file; a later read opens it again.
func (f *File) Close() error {
	if !f.open {
		return nil
	}
	f.open = false
	return unix.Close(f.fd)
}

// fromKernel reports whether the file lies in sysfs or procfs.
func fromKernel(fd int) bool {
	var s unix.Statfs_t
	if err := unix.Fstatfs(fd, &s); err != nil {
		return false
	}
	return s.Type == unix.SYSFS_MAGIC || s.Type == unix.PROC_SUPER_MAGIC
}

// ReadOnce opens, reads and closes a small file that is read rarely. One that
// does not fit is an error, one that is not there ErrAbsent.
func ReadOnce(path string, scratch []byte) ([]byte, error) {
	fd, err := openFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrAbsent
	}
	if err != nil {
		return nil, err
	}
	n, err := pread(&prompt{slow: true}, fd, scratch, true)
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return scratch[:n], nil
}
