package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// root is a copy of this machine's file system that nobody else sees: changes go
// to memory. No systemd runs in it.
type root struct {
	t          *testing.T
	dir, upper string
}

// newRoot makes a root in a mount namespace of the calling goroutine's thread,
// which ends with the test.
func newRoot(t *testing.T) root {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("dpkg wants to be root")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		t.Skipf("no mount namespace here: %v", err)
	}
	base, err := os.MkdirTemp("", "root") //nolint:usetesting // t.TempDir removes all that is in it, and here other file systems are
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Never RemoveAll: the files mounted here are not the test's own.
		_ = unix.Unmount(base, unix.MNT_DETACH)
		if err := os.Remove(base); err != nil {
			t.Error(err)
		}
	})
	r := root{t: t, dir: filepath.Join(base, "root"), upper: filepath.Join(base, "upper")}
	mount := func(source, target, kind string, flags uintptr, data string) {
		t.Helper()
		if err := os.MkdirAll(target, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(source, target, kind, flags, data); err != nil {
			t.Skipf("mount %s: %v", kind, err)
		}
	}
	mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	mount("tmpfs", base, "tmpfs", 0, "")
	for _, dir := range []string{r.upper, filepath.Join(base, "work")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount("overlay", r.dir, "overlay", 0, "lowerdir=/,upperdir="+r.upper+",workdir="+base+"/work")
	mount("proc", filepath.Join(r.dir, "proc"), "proc", 0, "")
	mount("tmpfs", filepath.Join(r.dir, "dev"), "tmpfs", 0, "")
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "urandom": 9} {
		if err := unix.Mknod(filepath.Join(r.dir, "dev", name), unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			t.Skipf("no devices here: %v", err)
		}
	}
	mount("tmpfs", filepath.Join(r.dir, "run"), "tmpfs", 0, "")
	return r
}

// run runs a program in the root.
func (r root) run(name string, args ...string) (string, error) {
	cmd := exec.Command("chroot", append([]string{r.dir, name}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "HOME=/root"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (r root) must(name string, args ...string) string {
	r.t.Helper()
	out, err := r.run(name, args...)
	if err != nil {
		r.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

// install installs a package, which lies outside.
func (r root) install(deb string) {
	r.t.Helper()
	b, err := os.ReadFile(deb)
	if err != nil {
		r.t.Fatal(err)
	}
	r.write("/run/package.deb", string(b))
	// Without the manual's index, which takes longer than the package.
	r.must("dpkg", "--no-triggers", "--force-unsafe-io", "--install", "/run/package.deb")
}

func (r root) write(name, text string) {
	r.t.Helper()
	name = filepath.Join(r.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		r.t.Fatal(err)
	}
}

// has wants a file to hold a text.
func (r root) has(name, want string) {
	r.t.Helper()
	if b, err := os.ReadFile(filepath.Join(r.dir, name)); err != nil || string(b) != want {
		r.t.Errorf("%s: %q, %v; want %q", name, b, err, want)
	}
}

func (r root) exists(name string, want bool) {
	r.t.Helper()
	if _, err := os.Lstat(filepath.Join(r.dir, name)); (err == nil) != want {
		r.t.Errorf("%s: %v; want it there: %v", name, err, want)
	}
}

// changed returns all files that differ from this machine's. Files that were made and removed again
// are not in it.
func (r root) changed() []string {
	r.t.Helper()
	var names []string
	err := filepath.WalkDir(r.upper, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&fs.ModeCharDevice == 0 {
			name, _ := filepath.Rel(r.upper, path)
			names = append(names, name)
		}
		return err
	})
	if err != nil || len(names) < 3 {
		r.t.Fatalf("changed files: %v, %v", names, err)
	}
	return names
}
