package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
)

// initramfs is a kernel's first file system, in the cpio format "newc": see
// Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
type initramfs struct {
	b     bytes.Buffer
	inode int
	made  map[string]bool // directories
}

// Types of a newc entry's mode, as in stat(2).
const (
	cpioDirectory = 0o040000
	cpioFile      = 0o100000
)

// directory adds a directory, and those above it.
func (a *initramfs) directory(name string) {
	if name == "." || a.made[name] {
		return
	}
	a.directory(path.Dir(name))
	if a.made == nil {
		a.made = map[string]bool{}
	}
	a.made[name] = true
	a.entry(name, cpioDirectory|0o755, nil)
}

// file adds a file and the directories above it.
func (a *initramfs) file(name string, perm fs.FileMode, content []byte) {
	a.directory(path.Dir(name))
	a.entry(name, cpioFile|int(perm.Perm()), content)
}

// entry writes a header of 13 numbers of 8 hexadecimal digits, the name with
// its NUL and the content, each padded to 4 bytes.
func (a *initramfs) entry(name string, mode int, content []byte) {
	a.inode++
	a.b.WriteString("070701")
	for _, v := range [13]int{a.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0} {
		fmt.Fprintf(&a.b, "%08x", v)
	}
	a.b.WriteString(name + "\x00")
	a.pad()
	a.b.Write(content)
	a.pad()
}

func (a *initramfs) pad() { a.b.Write(make([]byte, -a.b.Len()&3)) }

// bytes ends the archive and returns it.
func (a *initramfs) bytes() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.b.Bytes()
}
