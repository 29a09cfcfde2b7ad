package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"bramble/collector/registry"
	"bramble/storage"
)

const (
	// childMemory is the soft limit of the checking process's memory beside mapped files, in bytes.
	childMemory = 32 << 20
	// childNice keeps it behind the collector.
	childNice = 10
	// fetchTries is how often one file is read from a place that answers only in part.
	fetchTries = 3
)

// ErrNotTested is wrapped where a test restore could not be carried out, which says nothing about the backup: no space
// for it, no key, a process that was killed.
var ErrNotTested = errors.New("the backup could not be tested")

// verdict marks errors of the machine around a backup with ErrNotTested: they say nothing about the backup.
func verdict(err error) error {
	for _, around := range []error{errUnreachable, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, fs.ErrPermission} {
		if errors.Is(err, around) {
			return fmt.Errorf("%w: %w", ErrNotTested, err)
		}
	}
	return err
}

// Job is a checking process's task: restore the backup at the location Backup into Scratch, which does not exist yet,
// and check that everything is there. It is a command line's argument, so it holds no secret.
type Job struct {
	Backup  string `json:"backup"`
	S3      S3     `json:"s3"`
	Scratch string `json:"scratch"`
	Key     string `json:"key"` // age identity file; "" leaves secrets.age closed
	Rate    int64  `json:"rate"`
	// Unseal is set for a restore: the secrets are written into Scratch, and the state gets its keys back.
	Unseal bool `json:"unseal,omitempty"`
	// SeriesOnly leaves the rest of the backup out.
	SeriesOnly bool `json:"series_only,omitempty"`
}

// Check is the checking process: it does the job that argument describes and returns nil where all is as the
// manifest says. It ends when stdin does: nobody waits for the answer any more. pinOf names the CA of two PEM files.
func Check(ctx context.Context, argument string, stdin io.Reader, stderr io.Writer, pinOf func(key, cert []byte) (string, error)) error {
	var j Job
	if err := json.Unmarshal([]byte(argument), &j); err != nil {
		return fmt.Errorf("check backup: read job: %w", err)
	}
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, childNice) // slower for others' sake, not needed
	debug.SetMemoryLimit(childMemory)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		_, _ = io.Copy(io.Discard, stdin) // until the parent is gone
		cancel(errors.New("the parent process has ended"))
	}()
	log := slog.New(slog.NewTextHandler(stderr, nil))
	return verdict(causeOf(ctx, j.run(ctx, log, pinOf)))
}

func (j Job) run(ctx context.Context, log *slog.Logger, pinOf func(key, cert []byte) (string, error)) error {
	from, err := j.shelf()
	if err != nil {
		return err
	}
	m, err := readManifest(ctx, from)
	if err != nil {
		return err
	}
	if err := j.stage(ctx, from, m); err != nil {
		return err
	}
	if !j.SeriesOnly {
		if err := j.checkState(ctx, m, pinOf); err != nil {
			return err
		}
	}
	return j.checkSeries(ctx, m, log)
}

// stage restores the backup into the scratch folder. Every byte is compared with the manifest on the way.
func (j Job) stage(ctx context.Context, from shelf, m *Manifest) error {
	if err := os.Mkdir(j.Scratch, 0o700); err != nil {
		return explain(fmt.Errorf("make the scratch folder: %w", err))
	}
	c := newCopier(j.Rate)
	for _, f := range m.Files {
		if j.SeriesOnly && !inSeries(f.Path) {
			continue
		}
		sum, err := j.fetch(ctx, c, from, f.Path)
		if err != nil {
			return fmt.Errorf("restore %s: %w", f.Path, err)
		}
		if sum.Size != f.Size {
			return fmt.Errorf("restore %s: it has %d bytes, the manifest says %d", f.Path, sum.Size, f.Size)
		}
		if sum.SHA256 != f.SHA256 {
			return fmt.Errorf("restore %s: its SHA-256 is not the manifest's: the file was changed or damaged", f.Path)
		}
	}
	return syncTree(j.Scratch)
}

// shelf is where the backup lies.
func (j Job) shelf() (shelf, error) {
	target, name, _ := SplitLocation(j.Backup)
	p, err := Config{Target: target, S3: j.S3}.open("", false)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotTested, err)
	}
	return p.at(name), nil
}

// fetch restores one file. A connection that breaks in the middle of it is tried again from the beginning.
func (j Job) fetch(ctx context.Context, c *copier, from shelf, name string) (sum FileSum, err error) {
	to := filepath.Join(j.Scratch, filepath.FromSlash(name))
	for range fetchTries {
		if sum, err = j.fetchOnce(ctx, c, from, name, to); !errors.Is(err, errUnreachable) {
			return sum, err
		}
		if removed := os.Remove(to); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
			return sum, errors.Join(err, removed)
		}
	}
	return sum, err
}

func (j Job) fetchOnce(ctx context.Context, c *copier, from shelf, name, to string) (FileSum, error) {
	in, err := from.open(ctx, name)
	if err != nil {
		return FileSum{}, err
	}
	sum, err := c.writeTo(ctx, in, to)
	return sum, errors.Join(err, in.Close())
}

func inSeries(path string) bool {
	return strings.HasPrefix(path, seriesDir+"/") || strings.HasPrefix(path, rollupsDir+"/")
}

// checkState opens the secrets and the database.
func (j Job) checkState(ctx context.Context, m *Manifest, pinOf func(key, cert []byte) (string, error)) error {
	state, err := registry.CheckDB(ctx, filepath.Join(j.Scratch, stateFile))
	if err != nil {
		return err
	}
	if state != m.State {
		return fmt.Errorf("state.db holds %+v, the manifest says %+v", state, m.State)
	}
	if j.Key == "" {
		return nil
	}
	id, err := readKey(j.Key)
	if err == nil && id.Recipient().String() != m.Recipient {
		err = fmt.Errorf("%s is the key of %s, the backup is encrypted for %s", j.Key, id.Recipient(), m.Recipient)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotTested, err)
	}
	return j.checkSecrets(ctx, m, id, pinOf)
}

// checkSecrets decrypts everything. A restore writes it into the scratch folder, which then is in the data directory; a
// test writes no secret in the clear anywhere.
func (j Job) checkSecrets(ctx context.Context, m *Manifest, id *age.X25519Identity, pinOf func(key, cert []byte) (string, error)) error {
	f, err := os.Open(filepath.Join(j.Scratch, secretsFile))
	if err != nil {
		return fmt.Errorf("open secrets: %w", err)
	}
	defer f.Close()
	write := unsealInto(j.Scratch)
	small := map[string][]byte{placesName: nil, keysName: nil, authorityFiles[0]: nil, authorityFiles[1]: nil}
	has := map[string]bool{}
	err = unseal(f, id, func(name string, r io.Reader) error {
		has[name] = true
		if _, ok := small[name]; ok {
			text, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			small[name], r = text, bytes.NewReader(text)
		}
		if j.Unseal {
			return write(name, r)
		}
		_, err := io.Copy(io.Discard, r)
		return err
	})
	if err != nil {
		return err
	}
	pin, err := pinOf(small[authorityFiles[0]], small[authorityFiles[1]])
	if err != nil {
		return err
	}
	if pin != m.Pin {
		return fmt.Errorf("the CA in secrets.age is %s, the manifest says %s", pin, m.Pin)
	}
	if err := checkPlaces(small[placesName], m, has); err != nil {
		return err
	}
	return j.checkKeys(ctx, small[keysName])
}

// checkPlaces looks for every file that the backup says it has of the configuration. Older backups do not say.
func checkPlaces(text []byte, m *Manifest, has map[string]bool) error {
	if text == nil {
		return nil
	}
	var p places
	if err := json.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("read %s: %w", placesName, err)
	}
	for _, f := range m.Files {
		has[f.Path] = true
	}
	for _, f := range p.Files {
		if !has[f.Name] {
			return fmt.Errorf("the backup has no %s, which was %s", f.Name, f.Path)
		}
	}
	return nil
}

// checkKeys reads the state's keys, and puts them into the restored state. Older backups have them in state.db.
func (j Job) checkKeys(ctx context.Context, text []byte) error {
	if text == nil {
		return nil
	}
	var keys registry.Keys
	if err := json.Unmarshal(text, &keys); err != nil {
		return fmt.Errorf("read %s: %w", keysName, err)
	}
	if !j.Unseal {
		return nil
	}
	return registry.PutKeys(ctx, filepath.Join(j.Scratch, stateFile), keys)
}

// checkSeries opens the restored stores and counts.
func (j Job) checkSeries(ctx context.Context, m *Manifest, log *slog.Logger) error {
	if err := j.checkStore(ctx, seriesDir, storage.Counts{Rows: m.Rows, Series: m.Series}, log); err != nil {
		return err
	}
	if !m.holds(rollupsDir) && m.RollupRows == 0 && m.RollupSeries == 0 {
		return nil // of a collector without rollups
	}
	return j.checkStore(ctx, rollupsDir, storage.Counts{Rows: m.RollupRows, Series: m.RollupSeries}, log)
}

func (j Job) checkStore(ctx context.Context, name string, want storage.Counts, log *slog.Logger) error {
	dir := filepath.Join(j.Scratch, name)
	if err := os.MkdirAll(dir, 0o700); err != nil { // a store without rows has files all the same
		return explain(err)
	}
	got, err := storage.Inspect(ctx, dir, log)
	if err != nil {
		return err
	}
	if got.Rows != want.Rows {
		return fmt.Errorf("%s: the restored store has %d rows, the snapshot had %d", name, got.Rows, want.Rows)
	}
	if got.Series != want.Series {
		return fmt.Errorf("%s: the restored store has %d series, the snapshot had %d", name, got.Series, want.Series)
	}
	return nil
}
