package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bramble/collector/contents"
	"bramble/collector/registry"
	"bramble/storage/durable"
)

const (
	// unfinishedName marks a data directory in which a restore has begun to put things in place and has not ended.
	unfinishedName = "restore-unfinished"
	// stageName is where a restore gathers and tests everything first.
	stageName = ".restore"
)

// live are the entries of a data directory that a backup brings back. SQLite's files belong to the database.
var live = []string{seriesDir, rollupsDir, stateFile, stateFile + "-wal", stateFile + "-shm", journalDir, authorityFiles[0], authorityFiles[1]}

// Restore brings a backup back. The caller holds the data directory's lock.
type Restore struct {
	Backup  string // the backup's location, as Find takes it
	S3      S3     // how its bucket is reached, if it is in one
	DataDir string
	// Key opens secrets.age; "" restores without the CA and the configuration.
	Key string
	// ConfigTo puts the files of the configuration back: the first directory gets the files that lay beside the
	// collector's configuration, each of them the files that lay there. Empty leaves them in a folder of the data
	// directory.
	ConfigTo []string
	// Aside moves files in the way into a folder of the data directory; without it Run refuses.
	Aside bool
	// SeriesOnly brings back the series alone and leaves state, CA and journal as they are.
	SeriesOnly bool
	Rate       int64
	Child      []string // as New's
}

// Result describes a finished restore.
type Result struct {
	*Manifest
	Aside    string // folder with the files that were in the way, "" where nothing was
	Settings string // folder with the configuration and rule files, "" where there are none, or ConfigTo has put them back
	Config   string // the collector's configuration that was put back, "" without ConfigTo
	// Unread are newer backups beside this one whose list of void keys could not be read.
	Unread []string
	// ConfigAside are files of a configuration that were in the way, under their new names.
	ConfigAside []string
}

// Unfinished returns an error with the next step when a restore into dir was cut short, else nil.
func Unfinished(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, unfinishedName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for an unfinished restore: %w", err)
	}
	return fmt.Errorf("%s holds a restore that was cut short: run it again: collector backup restore %s --aside --data-dir %s", dir, strings.TrimSpace(string(text)), dir)
}

// Run restores. Everything is staged and tested first, by a process of its own; existing files stay untouched until
// then. Killed at any moment, it leaves the directory as it was, or marked as unfinished so that no collector starts
// there.
func (r Restore) Run(ctx context.Context) (res Result, err error) {
	from, err := Job{Backup: r.Backup, S3: r.S3}.shelf()
	if err != nil {
		return res, err
	}
	if res.Manifest, err = readManifest(ctx, from); err != nil {
		return res, err
	}
	if err := errors.Join(r.refuse(res.Manifest), r.refuseConfig(ctx, from)); err != nil {
		return res, err
	}
	stage := filepath.Join(r.DataDir, stageName)
	if err := os.RemoveAll(stage); err != nil { // of a restore that was cut short
		return res, fmt.Errorf("restore: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(stage)) }()
	if err := checkSpace("what is restored", r.DataDir, r.DataDir, res.Bytes); err != nil {
		return res, err
	}
	job := Job{Backup: r.Backup, S3: r.S3, Scratch: stage, Key: r.Key, Rate: r.Rate, SeriesOnly: r.SeriesOnly, Unseal: r.Key != ""}
	if err := job.runChild(ctx, r.Child); err != nil {
		return res, fmt.Errorf("restore backup %s: %w", res.Name, err)
	}
	if err := errors.Join(ctx.Err(), inheritTree(stage)); err != nil {
		return res, fmt.Errorf("restore backup %s: %w", res.Name, err)
	}
	if !r.SeriesOnly {
		if err := r.mergeVoids(ctx, stage, &res); err != nil {
			return res, fmt.Errorf("restore backup %s: %w", res.Name, err)
		}
	}
	if err := r.commit(stage, &res); err != nil {
		return res, fmt.Errorf("restore backup %s: %w", res.Name, err)
	}
	return res, nil
}

// names are the entries that this restore brings back.
func (r Restore) names(m *Manifest) []string {
	switch {
	case !r.SeriesOnly:
		return live
	case m.holds(rollupsDir):
		return live[:2]
	}
	return live[:1] // rollups that the backup does not have stay: they are right by themselves
}

// refuse stops where something is in the way that nobody has allowed to be moved.
func (r Restore) refuse(m *Manifest) error {
	if r.Aside {
		return nil
	}
	for _, name := range r.names(m) {
		if _, err := os.Lstat(filepath.Join(r.DataDir, name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("restore: %s holds data (%s): name an empty --data-dir, or let it be moved out of the way with --aside; nothing is overwritten",
				r.DataDir, name)
		}
	}
	return Unfinished(r.DataDir)
}

// commit puts the tested stage in place.
func (r Restore) commit(stage string, res *Result) error {
	mark := filepath.Join(r.DataDir, unfinishedName)
	again := r.Backup
	for _, dir := range r.ConfigTo {
		again += " --config-to " + dir
	}
	if err := writeFile(mark, []byte(again+"\n")); err != nil {
		return explain(err)
	}
	if err := os.Remove(filepath.Join(r.DataDir, contents.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) { // it is about the data before
		return err
	}
	if err := r.moveAside(res); err != nil {
		return err
	}
	if err := r.moveIn(stage, res); err != nil {
		return err
	}
	if err := durable.SyncDir(r.DataDir); err != nil {
		return err
	}
	if err := os.Remove(mark); err != nil {
		return err
	}
	return durable.SyncDir(r.DataDir)
}

func (r Restore) moveAside(res *Result) error {
	aside := filepath.Join(r.DataDir, "before-restore-"+time.Now().UTC().Format(nameLayout))
	for _, name := range r.names(res.Manifest) {
		from := filepath.Join(r.DataDir, name)
		if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.Mkdir(aside, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return explain(err)
		}
		if err := inherit(aside); err != nil {
			return err
		}
		res.Aside = aside
		if err := os.Rename(from, filepath.Join(aside, name)); err != nil {
			return err
		}
	}
	return nil
}

func (r Restore) moveIn(stage string, res *Result) error {
	for _, name := range r.names(res.Manifest) {
		err := os.Rename(filepath.Join(stage, name), filepath.Join(r.DataDir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	switch {
	case r.SeriesOnly:
		return nil
	case len(r.ConfigTo) > 0:
		return r.putConfig(stage, res)
	}
	return r.moveSettings(stage, res)
}

// maxVoids bounds a list of void keys, in bytes: 100,000 of them fit.
const maxVoids = 32 << 20

// mergeVoids puts into the data directory the list of keys that are void for good: all that its own
// list, this backup and the newer ones beside it know. The list was not moved aside, and the next
// start applies it, so that no backup brings a revoked key back.
func (r Restore) mergeVoids(ctx context.Context, stage string, res *Result) error {
	var lists [][]byte
	kept := filepath.Join(r.DataDir, registry.VoidFile)
	for _, path := range []string{kept, filepath.Join(stage, registry.VoidFile)} {
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		lists = append(lists, text)
	}
	target, name, _ := SplitLocation(r.Backup)
	p, err := Config{Target: target, S3: r.S3}.open("", false)
	if err != nil {
		return err
	}
	all, err := p.list(ctx)
	if err != nil {
		return err
	}
	for _, other := range all {
		if !validName(other) || other <= name {
			continue
		}
		text, err := readVoids(ctx, p.at(other))
		if err != nil {
			res.Unread = append(res.Unread, other)
		}
		lists = append(lists, text)
	}
	merged := registry.MergeVoids(lists...)
	if len(merged) == 0 {
		return nil
	}
	return writeFile(kept, merged)
}

// readVoids reads a backup's list, which is empty where nothing was revoked before it.
func readVoids(ctx context.Context, from shelf) ([]byte, error) {
	f, err := from.open(ctx, registry.VoidFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxVoids))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// moveSettings puts configuration and rules into a folder of their own: where they belong is the operator's to say.
func (r Restore) moveSettings(stage string, res *Result) error {
	to := filepath.Join(r.DataDir, "restored-"+res.Name)
	for _, name := range []string{settingsDir, rulesDir, placesName} {
		from := filepath.Join(stage, name)
		if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := errors.Join(os.MkdirAll(to, 0o700), inherit(to), os.RemoveAll(filepath.Join(to, name))); err != nil {
			return explain(err)
		}
		if err := os.Rename(from, filepath.Join(to, name)); err != nil {
			return err
		}
		res.Settings = to
	}
	return nil
}

// FindKey returns the age identity for a backup: the file that is named, or one that opens it where a collector
// keeps it: in the data directory, or beside the backups. It wraps ErrNoKey where there is none.
func FindKey(named, dataDir, location string, m *Manifest) (string, error) {
	candidates := []string{named}
	if named == "" {
		candidates = []string{filepath.Join(dataDir, KeyName)}
		if target, _, _ := SplitLocation(location); !InBucket(location) {
			candidates = append(candidates, filepath.Join(filepath.Dir(target), KeyName), filepath.Join(target, KeyName))
		}
	}
	var errs []error
	for _, path := range candidates {
		id, err := readKey(path)
		if err == nil && id.Recipient().String() != m.Recipient {
			err = fmt.Errorf("%s is the key of %s", path, id.Recipient())
		}
		if err == nil {
			return path, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("%w opens secrets.age, which is encrypted for %s (%w): name it with --key FILE, or leave the CA behind with --without-keys: then every board must enrol again",
		ErrNoKey, m.Recipient, errors.Join(errs...))
}

// KeepKey copies the key into a data directory that has none, so that its next backups use the same one.
func KeepKey(key, dataDir string) error {
	to := filepath.Join(dataDir, KeyName)
	if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := os.ReadFile(key)
	if err != nil {
		return fmt.Errorf("keep the backup key: %w", err)
	}
	return writeFile(to, text)
}
