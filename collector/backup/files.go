package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"filippo.io/age"
)

// Files are the files of a collector's configuration, by absolute path.
type Files struct {
	Config  string   // the collector's own; "" = it has none
	Secret  []string // kept encrypted: configuration, templates, tokens, certificates
	Rules   []string // kept as they are
	Unknown []string // gaps, such as the files that a broken one names
}

// placesName is the first file in secrets.age. It says where the files of the configuration were.
const placesName = "places.json"

// places is that file.
type places struct {
	Config  string   `json:"config"`   // the collector's own configuration; "" = it had none
	DataDir string   `json:"data_dir"` // where the data was
	Key     string   `json:"key"`      // the key of the backups, which is in none
	Files   []placed `json:"files"`
}

// placed is a file of the backup, or of its secrets.age, and its absolute path at the time.
type placed struct {
	Name string `json:"name"`
	Path string `json:"path"`
}

// missing begins the entries of a manifest's Excluded for files that should be in the backup.
const missing = "missing: "

// Missing lists files that the configuration named and that the backup does not have, and why.
func (m *Manifest) Missing() (all []string) {
	for _, e := range m.Excluded {
		if text, ok := strings.CutPrefix(e, missing); ok {
			all = append(all, text)
		}
	}
	return all
}

// addFiles copies the rules, and encrypts the rest of the configuration, the CA and the state's keys.
func (w *writer) addFiles(ctx context.Context, id *age.X25519Identity) error {
	files := Files{}
	if w.source.Files != nil {
		files = w.source.Files()
	}
	for _, text := range files.Unknown {
		w.manifest.Excluded = append(w.manifest.Excluded, missing+text)
	}
	all := places{Config: files.Config, DataDir: w.source.DataDir, Key: w.key}
	rules := archiveNames(rulesDir, w.present(files.Rules))
	for _, f := range rules {
		if err := w.add(ctx, f.path, f.name); err != nil {
			return fmt.Errorf("copy the rules: %w", err)
		}
	}
	settings := archiveNames(settingsDir, w.present(files.Secret))
	for _, f := range slices.Concat(settings, rules) {
		all.Files = append(all.Files, placed{f.name, f.path})
	}
	index, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	keys, err := json.Marshal(w.keys)
	if err != nil {
		return err
	}
	secrets := []secret{{name: placesName, text: index}, {name: keysName, text: keys}}
	for _, name := range authorityFiles {
		secrets = append(secrets, secret{name: name, path: filepath.Join(w.source.DataDir, name)})
	}
	f, err := os.OpenFile(filepath.Join(w.dir, secretsFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(seal(f, id, append(secrets, settings...)), f.Sync(), f.Close()); err != nil {
		return err
	}
	return w.note(ctx, secretsFile)
}

// present drops duplicates, the key that opens the backup, and unreadable files, which the manifest then lists.
func (w *writer) present(paths []string) (all []string) {
	for _, p := range paths {
		if p == w.key || slices.Contains(all, p) {
			continue
		}
		if err := readable(p); err != nil {
			w.manifest.Excluded = append(w.manifest.Excluded, missing+err.Error())
			continue
		}
		all = append(all, p)
	}
	return all
}

func readable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", path)
	}
	return err
}

// errFound ends the reading of secrets.age.
var errFound = errors.New("found")

// readPlaces reads where the files of a backup's configuration were. It wraps fs.ErrNotExist where the backup does not say.
func readPlaces(ctx context.Context, from shelf, key string) (p places, err error) {
	id, err := readKey(key)
	if err != nil {
		return p, err
	}
	f, err := from.open(ctx, secretsFile)
	if err != nil {
		return p, err
	}
	defer f.Close()
	err = unseal(f, id, func(name string, r io.Reader) error {
		if name != placesName {
			return fmt.Errorf("%s: %w", placesName, fs.ErrNotExist)
		}
		if err := json.NewDecoder(r).Decode(&p); err != nil {
			return err
		}
		return errFound
	})
	if errors.Is(err, errFound) {
		return p, nil
	}
	return p, err
}

// put is one file of the configuration on its way to where it was.
type put struct {
	from string // in the stage, or the key's path
	root string // the directory that the operator has named, or the data directory
	to   string // below root
}

func (p put) path() string { return filepath.Join(p.root, p.to) }

// within refuses a place that a link leads out of its root: the link's directory was not named by the operator.
func (p put) within() error {
	root, err := os.OpenRoot(p.root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is made
	}
	if err != nil {
		return err
	}
	defer root.Close()
	dir := filepath.Dir(p.to)
	if _, err := root.Stat(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s cannot be used: %w: move it away first", filepath.Join(p.root, dir), err)
	}
	return nil
}

// plan returns the new place of each file of the configuration. A file beside the collector's configuration goes into the
// first of ConfigTo, one in the data directory goes there, and one below a directory of ConfigTo goes back to its own path.
// Only directories that the operator has named are written to: an attacker who can write to the backups could otherwise write
// anywhere as root.
func (r Restore) plan(p places, stage string) (all []put, err error) {
	if p.Config == "" {
		return nil, errors.New("--config-to: the backup is of a collector without a configuration file")
	}
	files := slices.Clone(p.Files)
	if p.Key != "" {
		files = append(files, placed{Path: p.Key})
	}
	var outside []string
	for _, f := range files {
		root, to, ok := r.placeOf(p, f.Path)
		if !ok {
			if dir := filepath.Dir(f.Path); !slices.Contains(outside, dir) {
				outside = append(outside, dir)
			}
			continue
		}
		from := r.Key
		if f.Name != "" {
			from = filepath.Join(stage, filepath.FromSlash(f.Name))
		}
		all = append(all, put{from, root, to})
	}
	if len(outside) > 0 {
		return nil, fmt.Errorf("--config-to: the configuration had files elsewhere, too: allow these directories, or some above them, as well: --config-to %s", strings.Join(outside, " --config-to "))
	}
	return all, nil
}

func (r Restore) placeOf(p places, path string) (root, to string, ok bool) {
	for _, move := range append([][2]string{{filepath.Dir(p.Config), r.ConfigTo[0]}, {p.DataDir, r.DataDir}}, pairs(r.ConfigTo)...) {
		if to, err := filepath.Rel(move[0], path); err == nil && filepath.IsAbs(path) && filepath.IsLocal(to) {
			return move[1], to, true
		}
	}
	return "", "", false
}

func pairs(dirs []string) (all [][2]string) {
	for _, d := range dirs {
		all = append(all, [2]string{d, d})
	}
	return all
}

// refuseConfig stops early where the configuration cannot be put back.
func (r Restore) refuseConfig(ctx context.Context, from shelf) error {
	if len(r.ConfigTo) == 0 {
		return nil
	}
	if r.Key == "" || r.SeriesOnly {
		return errors.New("restore: --config-to: the configuration is in what --without-keys and --series-only leave behind")
	}
	p, err := readPlaces(ctx, from, r.Key)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("restore: --config-to: the backup does not say where its files were: restore it without, and put them back by hand")
	}
	if err != nil {
		return fmt.Errorf("restore: read where the configuration was: %w", err)
	}
	all, err := r.plan(p, "")
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	for _, f := range all {
		if f.path() == r.Key {
			continue
		}
		if _, err := os.Lstat(f.path()); err == nil && !r.Aside {
			return fmt.Errorf("restore: %s is there: let it be moved out of the way with --aside; nothing is overwritten", f.path())
		}
		if err := f.within(); err != nil {
			return fmt.Errorf("restore: --config-to: %w", err)
		}
	}
	return nil
}

// putConfig puts the files of the configuration where they were.
func (r Restore) putConfig(stage string, res *Result) error {
	text, err := os.ReadFile(filepath.Join(stage, placesName))
	if err != nil {
		return err
	}
	var p places
	if err := json.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("read %s: %w", placesName, err)
	}
	all, err := r.plan(p, stage)
	if err != nil {
		return err
	}
	for _, f := range all {
		if f.path() == r.Key {
			continue
		}
		if err := r.put(f, res); err != nil {
			return fmt.Errorf("put %s back: %w", f.path(), explain(err))
		}
	}
	_, to, _ := r.placeOf(p, p.Config)
	res.Config = filepath.Join(r.ConfigTo[0], to)
	return nil
}

// put writes one file as a whole. An existing file that differs is moved aside, and so is a link or a directory there; a link
// to the same text stays.
func (r Restore) put(f put, res *Result) error {
	data, err := os.ReadFile(f.from)
	if err != nil {
		return err
	}
	if err := makeRoot(f.root); err != nil {
		return err
	}
	root, err := os.OpenRoot(f.root) // a link below it that leads out is not followed
	if err != nil {
		return err
	}
	defer root.Close()
	_, err = root.Lstat(f.to)
	if err == nil {
		if old, err := os.ReadFile(f.path()); err == nil && bytes.Equal(old, data) {
			return nil
		}
		aside := f.to + ".before-restore-" + time.Now().UTC().Format(nameLayout)
		if err := root.Rename(f.to, aside); err != nil {
			return err
		}
		res.ConfigAside = append(res.ConfigAside, filepath.Join(f.root, aside))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := r.makeDirs(root, filepath.Dir(f.to), f.root); err != nil {
		return err
	}
	return r.write(root, f, data)
}

// makeRoot makes a directory for configuration where it is missing. Everybody may enter it, with any umask: the files in it
// have modes of their own, and the service must get to them.
func makeRoot(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeRoot(filepath.Dir(dir)); err != nil {
		return err
	}
	return errors.Join(os.Mkdir(dir, 0o755), os.Chmod(dir, 0o755)) //nolint:gosec // as a package makes it
}

func (r Restore) makeDirs(root *os.Root, dir, of string) error {
	if dir == "." {
		return nil
	}
	if err := r.makeDirs(root, filepath.Dir(dir), of); err != nil {
		return err
	}
	if err := root.Mkdir(dir, 0o750); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(r.give(d, of, 0o750), d.Close())
}

func (r Restore) write(root *os.Root, f put, data []byte) error {
	fresh := f.to + ".new"
	if err := root.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a restore that was cut short
		return err
	}
	out, err := root.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	if err := errors.Join(err, r.give(out, f.root, 0o640), out.Sync(), out.Close()); err != nil {
		return err
	}
	// A link, for a rename would overwrite.
	if err := errors.Join(root.Link(fresh, f.to), root.Remove(fresh)); err != nil {
		return err
	}
	d, err := root.Open(filepath.Dir(f.to))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// give lets the service read files that root has made: in the data directory its user owns it, elsewhere its group reads it.
// mode is the mode of root's files then; files of others stay readable by their owner alone.
func (r Restore) give(f *os.File, root string, mode fs.FileMode) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(r.DataDir)
	if err != nil {
		return err
	}
	service := info.Sys().(*syscall.Stat_t)
	if root == r.DataDir {
		return f.Chown(int(service.Uid), int(service.Gid))
	}
	return errors.Join(f.Chown(0, int(service.Gid)), f.Chmod(mode))
}
