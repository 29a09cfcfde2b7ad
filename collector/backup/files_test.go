package backup

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bramble/collector/broker"
)

// write makes files with contents below a directory, by their paths.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// tree reads all files below a directory.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, dir+"/")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestTheConfigurationGoesBackWhereItWas restores files beside the collector's configuration, in the data directory and
// elsewhere, and refuses directories that nobody has allowed.
func TestTheConfigurationGoesBackWhereItWas(t *testing.T) {
	etc, elsewhere := t.TempDir(), t.TempDir()
	c := newCollector(t, t.TempDir())
	had := map[string]string{
		"collector.yml": "the settings", "alertmanager.yml": "a secret-word of the routes", "secrets/hook.token": "a secret-word of a hook",
		"templates/collector.yml": "a secret-word of a template", "rules/own.yml": "groups: []",
	}
	write(t, etc, had)
	write(t, elsewhere, map[string]string{"tls/pages.key": "a secret-word of the pages"})
	write(t, c.DataDir, map[string]string{"sms.key": "a secret-word beside the data"})
	key := filepath.Join(etc, "own.key")
	c.Files = func() Files {
		f := Files{Config: filepath.Join(etc, "collector.yml"), Rules: []string{filepath.Join(etc, "rules/own.yml")}}
		for _, name := range []string{"collector.yml", "alertmanager.yml", "secrets/hook.token", "templates/collector.yml", "own.key", "secrets/hook.token", "gone.token"} {
			f.Secret = append(f.Secret, filepath.Join(etc, name))
		}
		f.Secret = append(f.Secret, filepath.Join(elsewhere, "tls/pages.key"), filepath.Join(c.DataDir, "sms.key"))
		f.Unknown = []string{"what a broken file names"}
		return f
	}
	k := c.keeper(t, Config{Key: key})
	m := create(t, k)
	if text := grep(t, k.dirOf(m), "secret-word"); text != "" {
		t.Errorf("%s holds a secret in the clear", text)
	}
	gone := fmt.Sprintf("open %s: no such file or directory", filepath.Join(etc, "gone.token"))
	if d := cmp.Diff([]string{"what a broken file names", gone}, m.Missing()); d != "" {
		t.Errorf("missing (-want +got):\n%s", d)
	}
	if e := (&Entry{Manifest: m}); !e.Good() || !strings.Contains(e.Result(), gone) {
		t.Errorf("the list says %q", e.Result())
	}
	keyText, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if text := grep(t, k.dirOf(m), strings.TrimSpace(string(keyText[bytes.LastIndex(keyText, []byte("AGE-")):]))); text != "" {
		t.Errorf("%s holds the key", text)
	}

	// Another host, whose operator has the key somewhere.
	away := filepath.Join(t.TempDir(), "usb.key")
	if err := os.WriteFile(away, keyText, 0o600); err != nil {
		t.Fatal(err)
	}
	to, back := t.TempDir(), filepath.Join(t.TempDir(), "etc", "bramble")
	if err := os.RemoveAll(elsewhere); err != nil {
		t.Fatal(err)
	}
	r := Restore{Backup: k.dirOf(m), DataDir: to, Key: away, Child: checker(t), ConfigTo: []string{back}}
	_, err = r.Run(t.Context())
	if want := "--config-to " + filepath.Join(elsewhere, "tls"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	if got := tree(t, to); len(got) > 0 {
		t.Errorf("a restore that was refused left %v", got)
	}
	r.ConfigTo = append(r.ConfigTo, elsewhere)
	write(t, back, map[string]string{"collector.yml": "a package's own", "rules/own.yml": "groups: []"})
	_, err = r.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), filepath.Join(back, "collector.yml")+" is there") {
		t.Errorf("over a file: %v", err)
	}
	r.Aside = true
	res, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if res.Config != filepath.Join(back, "collector.yml") || res.Settings != "" || len(res.ConfigAside) != 1 {
		t.Errorf("result: config %q, settings %q, aside %v", res.Config, res.Settings, res.ConfigAside)
	}
	if text, err := os.ReadFile(res.ConfigAside[0]); err != nil || string(text) != "a package's own" {
		t.Errorf("what was there is now %q, %v", text, err)
	}
	if err := os.Remove(res.ConfigAside[0]); err != nil {
		t.Error(err)
	}
	had["own.key"] = string(keyText)
	if d := cmp.Diff(had, tree(t, back)); d != "" {
		t.Errorf("the configuration (-want +got):\n%s", d)
	}
	if d := cmp.Diff(map[string]string{"tls/pages.key": "a secret-word of the pages"}, tree(t, elsewhere)); d != "" {
		t.Errorf("elsewhere (-want +got):\n%s", d)
	}
	if text, err := os.ReadFile(filepath.Join(to, "sms.key")); err != nil || string(text) != "a secret-word beside the data" {
		t.Errorf("in the data directory: %q, %v", text, err)
	}
	if _, err := r.Run(t.Context()); err != nil { // as after a restore that was cut short
		t.Errorf("once more: %v", err)
	}
}

// TestConfigIsReadByTheServiceAlone checks owner and mode of files that root restores for a service with a user of its
// own.
func TestConfigIsReadByTheServiceAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	etc := t.TempDir()
	write(t, etc, map[string]string{"collector.yml": "x", "secrets/token": "y"})
	c := newCollector(t, t.TempDir())
	c.Files = func() Files {
		return Files{Config: filepath.Join(etc, "collector.yml"), Secret: []string{filepath.Join(etc, "collector.yml"), filepath.Join(etc, "secrets/token")}}
	}
	k := c.keeper(t, Config{})
	m := create(t, k)
	to, back := t.TempDir(), t.TempDir()
	if err := os.Chown(to, 54321, 54322); err != nil {
		t.Fatal(err)
	}
	if _, err := (Restore{Backup: k.dirOf(m), DataDir: to, Key: k.Key(), Child: checker(t), ConfigTo: []string{back}}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]fs.FileMode{"collector.yml": 0o640, "secrets": 0o750, "secrets/token": 0o640} {
		info, err := os.Stat(filepath.Join(back, name))
		if err != nil {
			t.Fatal(err)
		}
		if owner := info.Sys().(*syscall.Stat_t); info.Mode().Perm() != mode || owner.Uid != 0 || owner.Gid != 54322 {
			t.Errorf("%s: mode %v, owner %d:%d", name, info.Mode(), owner.Uid, owner.Gid)
		}
	}
}

// TestALinkInTheWayIsNotFollowed lets a service prepare its data directory for root's restore.
func TestALinkInTheWayIsNotFollowed(t *testing.T) {
	etc, victim := t.TempDir(), t.TempDir()
	c := newCollector(t, t.TempDir())
	write(t, etc, map[string]string{"collector.yml": "x"})
	write(t, c.DataDir, map[string]string{"own/sms.key": "y"})
	c.Files = func() Files {
		return Files{Config: filepath.Join(etc, "collector.yml"), Secret: []string{filepath.Join(etc, "collector.yml"), filepath.Join(c.DataDir, "own/sms.key")}}
	}
	k := c.keeper(t, Config{})
	m := create(t, k)
	to := t.TempDir()
	if err := os.Symlink(victim, filepath.Join(to, "own")); err != nil {
		t.Fatal(err)
	}
	_, err := Restore{Backup: k.dirOf(m), DataDir: to, Key: k.Key(), Child: checker(t), ConfigTo: []string{t.TempDir()}}.Run(t.Context())
	if err == nil || len(tree(t, victim)) > 0 {
		t.Errorf("%v, and the link's end holds %v", err, tree(t, victim))
	}
}

// TestLinksAndDirectoriesInTheWay restores over a configuration that an operator keeps partly behind links, on a machine
// whose root has a strict umask.
func TestLinksAndDirectoriesInTheWay(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	etc := t.TempDir()
	c := newCollector(t, t.TempDir())
	had := map[string]string{"collector.yml": "x", "same.crt": "a certificate", "other.crt": "a second", "gone.crt": "a third", "taken": "a fourth", "tls/own.key": "a fifth"}
	write(t, etc, had)
	c.Files = func() Files {
		f := Files{Config: filepath.Join(etc, "collector.yml")}
		for name := range had {
			f.Secret = append(f.Secret, filepath.Join(etc, name))
		}
		return f
	}
	k := c.keeper(t, Config{})
	m := create(t, k)

	vault, above := t.TempDir(), t.TempDir()
	back := filepath.Join(above, "etc", "bramble")
	write(t, vault, map[string]string{"same.crt": "a certificate", "other.crt": "another one", "keys/own.key": "an older one"})
	write(t, back, map[string]string{"taken/by": "a directory"})
	for name, to := range map[string]string{"same.crt": "same.crt", "other.crt": "other.crt", "gone.crt": "never", "tls": "keys"} {
		if err := os.Symlink(filepath.Join(vault, to), filepath.Join(back, name)); err != nil {
			t.Fatal(err)
		}
	}
	to := t.TempDir()
	r := Restore{Backup: k.dirOf(m), DataDir: to, Key: k.Key(), Child: checker(t), ConfigTo: []string{back}, Aside: true}
	_, err := r.Run(t.Context())
	if want := filepath.Join(back, "tls") + " cannot be used"; err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("through a link of a directory: %v, want %q", err, want)
	}
	if got := tree(t, to); len(got) > 0 {
		t.Errorf("a restore that was refused left %v", got)
	}
	if err := os.Remove(filepath.Join(back, "tls")); err != nil {
		t.Fatal(err)
	}
	res, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := Unfinished(to); err != nil {
		t.Error(err)
	}
	for name, want := range had {
		if got, err := os.ReadFile(filepath.Join(back, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if info, err := os.Lstat(filepath.Join(back, "same.crt")); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link to the same text is %v, %v", info, err)
	}
	if len(res.ConfigAside) != 3 {
		t.Errorf("aside: %v", res.ConfigAside)
	}
	if d := cmp.Diff(map[string]string{"same.crt": "a certificate", "other.crt": "another one", "keys/own.key": "an older one"}, tree(t, vault)); d != "" {
		t.Errorf("behind the links (-had +has):\n%s", d)
	}

	r.DataDir, r.ConfigTo = t.TempDir(), []string{filepath.Join(above, "new", "bramble")}
	if _, err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for dir := r.ConfigTo[0]; dir != above; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v: the service cannot enter it", dir, info.Mode(), err)
		}
	}
}

// TestATestWritesNoSecret runs the test of a backup and looks into its scratch folder, which is on the target's disk.
func TestATestWritesNoSecret(t *testing.T) {
	etc := t.TempDir()
	write(t, etc, map[string]string{"collector.yml": "a secret-word"})
	c := newCollector(t, t.TempDir())
	c.Files = func() Files {
		return Files{Config: filepath.Join(etc, "collector.yml"), Secret: []string{filepath.Join(etc, "collector.yml")}}
	}
	k := c.keeper(t, Config{})
	m := create(t, k)
	j := Job{Backup: k.dirOf(m), Scratch: filepath.Join(t.TempDir(), "scratch"), Key: k.Key()}
	if err := j.stage(t.Context(), folderShelf(k.dirOf(m)), m); err != nil {
		t.Fatal(err)
	}
	if err := j.checkState(t.Context(), m, broker.PinOfPEM); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(c.DataDir, authorityFiles[0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"secret-word", string(ca)} {
		if found := grep(t, j.Scratch, text); found != "" {
			t.Errorf("%s holds a secret in the clear", found)
		}
	}
}
