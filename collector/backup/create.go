package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"bramble/collector/registry"
	"bramble/storage"
)

// Names inside a backup.
const (
	seriesDir   = "series"
	rollupsDir  = "rollups"
	stateFile   = "state.db"
	journalDir  = "journal"
	rulesDir    = "rules"
	settingsDir = "config"
	secretsFile = "secrets.age"
	keysName    = "state-keys.json" // in secrets.age: the keys that the state signs with
)

// authorityFiles are the collector's CA in the data directory; boards pin it.
var authorityFiles = []string{"ca.key", "ca.crt"}

// holdTime is how long a backup waits for the store to have all acknowledged readings. A store that takes nothing because
// its disk is full would make it wait for ever.
const holdTime = time.Minute

// excluded lists the things that a backup leaves out, with the reasons.
var excluded = []string{
	registry.Ephemeral,
	"series/cache, series/tmp, rollups/cache, rollups/tmp: the stores make them again",
	"lock, control.sock: they belong to the running process",
	"backups, backup.key: a backup does not hold the others, nor the key that opens it",
}

// build writes a whole backup, which nothing has tested yet.
func (k *Keeper) build(ctx context.Context, p place, now time.Time) (m *Manifest, err error) {
	id, made, err := openKey(k.config.Key)
	if err != nil {
		return nil, err
	}
	if made {
		k.log.Warn("a key for the backups was made: keep a copy of it away from this machine; without it a restore has no CA, and every board must enrol again", "file", k.config.Key)
	}
	m = &Manifest{
		Format: format, Name: now.UTC().Format(nameLayout), Collector: k.source.Version,
		Taken: now.UTC().Truncate(time.Millisecond), Pin: k.source.Pin, Recipient: id.Recipient().String(), Excluded: slices.Clone(excluded),
	}
	d, err := p.begin(ctx, m.Name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.discard())
		}
	}()
	_, remote := p.(*bucket)
	w := &writer{manifest: m, source: k.source, copy: newCopier(int64(k.config.Rate)), draft: d, dir: d.dir(), remote: remote, key: k.config.Key}
	if err := w.writeAll(ctx, id); err != nil {
		return nil, explain(err)
	}
	if missing := m.Missing(); len(missing) > 0 {
		k.log.Warn("the backup lacks files that the configuration names: a restore does not start without them", "missing", missing)
	}
	m.Seconds = time.Since(now).Seconds()
	return m, d.publish(ctx, m)
}

// writer writes one backup.
type writer struct {
	manifest *Manifest
	source   Source
	copy     *copier
	draft    draft
	dir      string        // the draft's
	remote   bool          // the series are not kept on a local disk
	key      string        // the file that opens the secrets
	keys     registry.Keys // of the state
}

func (w *writer) writeAll(ctx context.Context, id *age.X25519Identity) error {
	snapshot, err := w.freeze(ctx)
	if err != nil {
		return err
	}
	defer snapshot.Release()
	if w.source.Store == nil {
		w.manifest.Excluded = append(w.manifest.Excluded, "series: they are in the remote store "+w.source.Remote+", which has backups of its own",
			"queue: what was on its way to the remote store")
	}
	if err := w.addStore(ctx, snapshot, seriesDir); err != nil {
		return err
	}
	w.manifest.Rows, w.manifest.Series = snapshot.Rows, snapshot.Series
	if err := w.addRollups(ctx); err != nil {
		return err
	}
	err = w.add(ctx, filepath.Join(w.source.DataDir, registry.VoidFile), registry.VoidFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return w.addFiles(ctx, id)
}

// addStore copies a store's files to where the backup is kept.
func (w *writer) addStore(ctx context.Context, snapshot *storage.Snapshot, dir string) error {
	for _, f := range snapshot.Files {
		name := path.Join(dir, f.Name)
		sum, err := w.draft.series(ctx, w.copy, f.Source, name)
		if err != nil {
			return fmt.Errorf("copy the %s: %w", dir, err)
		}
		w.list(sum, name)
	}
	return nil
}

// freeze takes the parts that must be of one instant: a snapshot of the series, then the state, then the journal. The
// journal is the last, so that it has every alert that the state knows; the journal's replay brings the others up to it.
func (w *writer) freeze(ctx context.Context) (_ *storage.Snapshot, err error) {
	if w.source.Hold != nil {
		holdCtx, cancel := context.WithTimeout(ctx, holdTime)
		release, err := w.source.Hold(holdCtx)
		cancel()
		if err != nil {
			return nil, err
		}
		defer release()
	}
	snapshot, err := w.snapshot()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			snapshot.Release()
		}
	}()
	if err := w.checkSpace(snapshot); err != nil {
		return nil, err
	}
	if err := w.addState(ctx); err != nil {
		return nil, err
	}
	return snapshot, w.addTree(ctx, filepath.Join(w.source.DataDir, journalDir), journalDir)
}

// snapshot is an empty one where the series are elsewhere.
func (w *writer) snapshot() (*storage.Snapshot, error) {
	if w.source.Store == nil {
		return &storage.Snapshot{}, nil
	}
	return w.source.Store.Snapshot()
}

// checkSpace checks the free space for the backup, where it is kept on a disk, and for the restored copy of its test.
func (w *writer) checkSpace(snapshot *storage.Snapshot) error {
	state, err := treeSize(filepath.Join(w.source.DataDir, stateFile))
	if err != nil {
		return err
	}
	if err := checkSpace("the copy of the state", w.source.DataDir, w.source.DataDir, state); err != nil {
		return err
	}
	bytes, err := treeSize(filepath.Join(w.source.DataDir, journalDir))
	if err != nil {
		return err
	}
	bytes += state
	for _, f := range snapshot.Files {
		bytes += f.Size
	}
	if w.remote {
		return checkSpace("the test restore of a backup", w.dir, w.source.DataDir, bytes)
	}
	return checkSpace("a backup and its test restore", w.dir, w.source.DataDir, 2*bytes)
}

func treeSize(root string) (bytes int64, err error) {
	err = filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a segment that was truncated meanwhile, or no journal yet
		}
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err == nil {
			bytes += info.Size()
		}
		return nil
	})
	return bytes, err
}

// addState copies the database, and counts the copy's rows. Its keys are taken out in the data directory, for they must not
// touch the target's disk.
func (w *writer) addState(ctx context.Context) (err error) {
	apart := filepath.Join(w.source.DataDir, ".backup-"+stateFile)
	defer func() { err = errors.Join(err, removeFile(apart)) }()
	if err := removeFile(apart); err != nil { // of a backup that was killed
		return err
	}
	if w.keys, err = registry.CopyDB(ctx, w.source.DB, apart); err != nil {
		return err
	}
	if w.manifest.State, err = registry.CheckDB(ctx, apart); err != nil {
		return err
	}
	return w.add(ctx, apart, stateFile)
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// note lists a file that is there.
func (w *writer) note(ctx context.Context, name string) error {
	sum, err := w.copy.sumFile(ctx, filepath.Join(w.dir, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	w.list(sum, name)
	return nil
}

func (w *writer) list(sum FileSum, name string) {
	sum.Path = name
	w.manifest.Files = append(w.manifest.Files, sum)
	w.manifest.Bytes += sum.Size
}

// add copies a file and lists it.
func (w *writer) add(ctx context.Context, from, name string) error {
	sum, err := w.copy.copyFile(ctx, from, filepath.Join(w.dir, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	w.list(sum, name)
	return nil
}

// addTree copies the files of a directory that has no others below it. A directory that is not there holds none.
func (w *writer) addTree(ctx context.Context, dir, name string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := w.add(ctx, filepath.Join(dir, e.Name()), path.Join(name, e.Name())); err != nil {
			return fmt.Errorf("copy the %s: %w", name, err)
		}
	}
	return nil
}

// addRollups copies the rollups, where there are any. They need not be of the series' instant: rows and the mark of how
// far they go are in one store, and readings behind the mark stay in the series long enough to be rolled up again.
func (w *writer) addRollups(ctx context.Context) error {
	if w.source.Rollups == nil {
		return nil
	}
	snapshot, err := w.source.Rollups.Snapshot()
	if err != nil {
		return err
	}
	defer snapshot.Release()
	if err := w.checkSpace(snapshot); err != nil {
		return err
	}
	if err := w.addStore(ctx, snapshot, rollupsDir); err != nil {
		return err
	}
	w.manifest.RollupRows, w.manifest.RollupSeries = snapshot.Rows, snapshot.Series
	return nil
}
