package soc

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"bramble/pisensor/report"
)

const (
	// largest is the largest file that is read: every source is one short line.
	largest = 128
	// lookAgain is how many reads pass before a missing source is looked for
	// again: a driver may load late. At the default rate it is 10 min.
	lookAgain = 60
)

// parser turns a source's text into a value in the metric's wire unit.
type parser func([]byte) (int64, error)

// file is a source that is one small file of the kernel. Where it really is
// the kernel's it stays open; in a plain directory, whose files may be
// replaced, it is opened for each read.
type file struct {
	source string // names it in the error counter
	paths  func() []string
	open   *os.File
	plain  bool  // it was found in a plain directory
	wait   int   // reads until it is looked for again
	errors int64 // reads that failed or gave nonsense
	buf    [largest + 1]byte
}

func newFile(source string, paths func() []string) *file {
	return &file{source: source, paths: paths}
}

// add adds a reading of the metric, if the file has a plausible one.
func (f *file) add(t *report.Tick, m report.Metric, parse parser) {
	b, ok := f.read()
	if !ok {
		return
	}
	v, err := parse(b)
	if d := report.Define(m); err != nil || v < d.Min || v > d.Max {
		f.errors++
		return
	}
	t.Add(m, v)
}

// read returns the file's content, valid until the next call, and false where
// there is none.
func (f *file) read() ([]byte, bool) {
	if f.open == nil && !f.find() {
		return nil, false
	}
	n, err := unix.Pread(int(f.open.Fd()), f.buf[:], 0)
	if f.plain {
		err = errors.Join(err, f.Close())
	}
	if err != nil || n > largest {
		f.errors++
		f.reopen(err)
		return nil, false
	}
	return f.buf[:n], true
}

// reopen forgets a file whose device has gone.
func (f *file) reopen(err error) {
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		if err := f.Close(); err != nil {
			f.errors++
		}
	}
}

// find opens the first of the paths that exists.
func (f *file) find() bool {
	if f.wait--; f.wait >= 0 {
		return false
	}
	for _, path := range f.paths() {
		opened, err := os.Open(path)
		if err == nil {
			f.open, f.wait, f.plain = opened, 0, !fromKernel(opened)
			return true
		}
		if !errors.Is(err, fs.ErrNotExist) {
			f.errors++
		}
	}
	if !f.plain {
		f.wait = lookAgain
	}
	return false
}

// Close closes the file; a later read opens it again.
func (f *file) Close() error {
	if f.open == nil {
		return nil
	}
	err := f.open.Close()
	f.open = nil
	return err
}

// fromKernel reports whether the file lies in sysfs or procfs.
func fromKernel(f *os.File) bool {
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &s); err != nil {
		return false
	}
	return s.Type == unix.SYSFS_MAGIC || s.Type == unix.PROC_SUPER_MAGIC
}
