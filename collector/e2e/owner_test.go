package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// serviceUser stands for the user of the packaged unit. It has no account here.
const serviceUser = 54321

// ownedDir makes an empty data directory that belongs to the service's user, who reaches it. It skips where this test is
// not root's.
func ownedDir(t *testing.T, name string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	parent := t.TempDir()
	dir := filepath.Join(parent, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, change := range []error{os.Chmod(filepath.Dir(parent), 0o755), os.Chmod(parent, 0o755), os.Chown(dir, serviceUser, serviceUser)} {
		if change != nil {
			t.Fatal(change)
		}
	}
	return dir
}

// foreign lists the files below a directory that the service's user does not own.
func foreign(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != serviceUser {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestRootLeavesNothingOfItsOwn runs commands as root on the data directory of a service that has a user of its own.
func TestRootLeavesNothingOfItsOwn(t *testing.T) {
	t.Parallel()
	s := &server{t: t, dir: ownedDir(t, "data"), http: freeAddress(t, "127.0.0.1"), nats: freeAddress(t, "127.0.0.1")}
	s.do("long enough\n", "user", "add", "mira", "--role", "admin")
	s.do("", "board", "add", "pi-1")
	s.bearer = s.do("", "token", "create", "--role", "admin")
	name := s.do("", "backup", "create")
	s.try("", "backup", "create", "--target", t.TempDir()).refused(t, "permission denied", "root acts here as user 54321", s.dir)
	if left := foreign(t, s.dir); len(left) > 0 {
		t.Errorf("commands left %v", left)
	}

	r := &server{t: t, dir: ownedDir(t, "new")}
	r.do("", "backup", "restore", filepath.Join(s.dir, "backups", name))
	r.do("", "backup", "restore", filepath.Join(s.dir, "backups", name), "--aside", "--key", filepath.Join(s.dir, "backup.key"))
	if left := foreign(t, r.dir); len(left) > 0 {
		t.Errorf("a restore left %v", left)
	}
	for _, needed := range []string{"state.db", "ca.key", "backup.key", "lock"} {
		if _, err := os.Stat(filepath.Join(r.dir, needed)); err != nil {
			t.Error(err)
		}
	}

	s.start() // by hand, as root
	s.do("", "board", "add", "pi-2")
	if _, err := os.Stat(filepath.Join(s.dir, "control.sock")); err != nil {
		t.Error(err)
	}
	if left := foreign(t, s.dir); len(left) > 0 {
		t.Errorf("a collector left %v", left)
	}
	if code := s.stop(t, patience); code != 0 {
		t.Errorf("stop: exit %d: %s", code, s.errs)
	}
	if left := foreign(t, s.dir); len(left) > 0 {
		t.Errorf("a collector that stopped left %v", left)
	}
}

// refused checks that a command failed and that its last line has the wanted texts.
func (a answer) refused(t testing.TB, wanted ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(a.errs), "\n")
	for _, w := range wanted {
		if last := lines[len(lines)-1]; a.code != 1 || !strings.Contains(last, w) {
			t.Errorf("exit %d, %q does not say %q", a.code, last, w)
		}
	}
}
