package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/units"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"bramble/collector/admin"
	"bramble/collector/backup"
	"bramble/collector/broker"
	"bramble/collector/registry"
	"bramble/dashboards"
)

// checkBackup is the command, for no person's use, under which this program
// tests a backup in a process of its own.
const checkBackup = "check-backup"

// child is how this program starts itself, also after its file was replaced.
func child() []string { return []string{"/proc/self/exe", checkBackup} }

func runCheckBackup(ctx context.Context, args []string, stdin io.Reader, stderr io.Writer) error {
	if len(args) != 1 {
		return fmt.Errorf("%s is the collector's own: use `collector backup verify`", checkBackup)
	}
	return backup.Check(ctx, args[0], stdin, stderr, broker.PinOfPEM)
}

// readBackups takes over the `backups` block, which puts backups on a schedule.
func (c *Config) readBackups(n *yaml.Node) error {
	b := &c.Backups
	b.Every, b.Keep = 24*time.Hour, backup.DefaultKeep
	return eachKey(n, map[string]func(*yaml.Node) error{
		"target": func(n *yaml.Node) error { return n.Decode(&b.Target) },
		"key":    func(n *yaml.Node) error { return n.Decode(&b.Key) },
		"s3": func(n *yaml.Node) error {
			text := func(to *string) func(*yaml.Node) error { return func(n *yaml.Node) error { return n.Decode(to) } }
			return eachKey(n, map[string]func(*yaml.Node) error{
				"endpoint": text(&b.S3.Endpoint), "region": text(&b.S3.Region), "credentials": text(&b.S3.Credentials), "ca": text(&b.S3.CA),
			})
		},
		"every": func(n *yaml.Node) error {
			d, err := model.ParseDuration(n.Value)
			b.Every = time.Duration(d)
			return err
		},
		"rate": func(n *yaml.Node) (err error) {
			b.Rate, err = units.ParseStrictBytes(n.Value)
			return err
		},
		"keep": func(n *yaml.Node) error {
			whole := func(to *int) func(*yaml.Node) error { return func(n *yaml.Node) error { return n.Decode(to) } }
			return eachKey(n, map[string]func(*yaml.Node) error{
				"daily": whole(&b.Keep.Daily), "weekly": whole(&b.Keep.Weekly), "monthly": whole(&b.Keep.Monthly),
			})
		},
	})
}

func checkBackups(b backup.Config) error {
	switch k := b.Keep; {
	case b.Every != 0 && (b.Every < 5*time.Minute || b.Every > 31*24*time.Hour):
		return fmt.Errorf("every: %s is not between 5m and 31d", b.Every)
	case k.Daily < 0 || k.Weekly < 0 || k.Monthly < 0:
		return errors.New("keep: a number is negative")
	case b.Rate < 0 || b.Rate > 0 && b.Rate < 1<<20:
		return fmt.Errorf("rate: %d bytes a second are less than 1MiB", b.Rate)
	case backup.InBucket(b.Target):
		return b.S3.Check(b.Target)
	case b.S3 != (backup.S3{}) && b.Target != "":
		return fmt.Errorf("s3: the target %s is a directory: write target: s3://BUCKET/PREFIX", b.Target)
	}
	return nil
}

// openBackups makes the keeper of the collector's backups, which does nothing
// before run.
func (a *app) openBackups(ctx context.Context) error {
	last, err := registry.LastUpgrade(ctx, a.db)
	if err != nil {
		return fmt.Errorf("read the last upgrade: %w", err)
	}
	spare := ""
	if last.Backup != "" {
		spare = path.Base(last.Backup)
	}
	a.backups = backup.New(a.config.Backups, backup.Source{
		DataDir: a.config.DataDir, DB: a.db, Store: a.embedded, Rollups: a.rolled, Remote: a.config.Store.Write, Hold: a.ingest.Hold,
		Files: a.config.files, Pin: a.broker.Pin(), Version: version(),
		Spare: spare,
	}, child(), a.log)
	a.metrics.MustRegister(a.backups)
	a.defers("backups", func() error { a.backups.Close(); return nil })
	return nil
}

// runBackup runs a backup command, in the collector that holds the data
// directory or here.
func runBackup(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	file, args, err := admin.TakeFlag(args, "--config", "file", "")
	if err != nil {
		return err
	}
	c := DefaultConfig
	if file != "" {
		if err := c.read(file); err != nil {
			return err
		}
	}
	if c.DataDir, args, err = admin.DataDir(args, c.DataDir); err != nil {
		return err
	}
	if args, err = admin.Absolute(args); err != nil {
		return err
	}
	if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
		return err
	}
	o := offlineBackups{config: c, log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if _, err := os.Stat(c.DataDir); errors.Is(err, fs.ErrNotExist) && !slices.Contains(args, "restore") {
		if err := o.needsNoData(args); err != nil {
			return err
		}
		return admin.Run(ctx, args, stdin, stdout, stderr, admin.State{Backups: o.keeper(backup.Source{DataDir: c.DataDir})})
	}
	return admin.Dispatch(ctx, c.DataDir, args, stdin, stdout, stderr, func() (admin.State, func(), error) { return o.open(ctx, args) })
}

// offlineBackups are the backups of a collector that does not run.
type offlineBackups struct {
	config Config
	log    *slog.Logger
}

// needsNoData lets list and verify work on a machine that has backups and no
// data directory.
func (o offlineBackups) needsNoData(args []string) error {
	if len(args) < 2 || slices.Contains(args, "--help") || slices.Contains(args, "-h") {
		return nil // the grammar answers
	}
	elsewhere := o.config.Backups.Target != "" || slices.ContainsFunc(args, func(a string) bool {
		return strings.HasPrefix(a, "--target") || filepath.IsAbs(a) || backup.InBucket(a)
	})
	if slices.Contains(args, "create") || !elsewhere {
		return fmt.Errorf("there is no collector's data in %s: name its directory with --data-dir DIR, or where the backups are with --target DIR", o.config.DataDir)
	}
	return nil
}

func (o offlineBackups) keeper(s backup.Source) *backup.Keeper {
	return backup.New(o.config.Backups, s, child(), o.log)
}

// open opens what the command needs. The caller holds the directory's lock.
func (o offlineBackups) open(ctx context.Context, args []string) (admin.State, func(), error) {
	if !slices.Contains(args, "create") {
		k := o.keeper(backup.Source{DataDir: o.config.DataDir})
		return admin.State{Backups: k, Restore: o.restore}, k.Close, nil
	}
	if err := backup.Unfinished(o.config.DataDir); err != nil {
		return admin.State{}, nil, err
	}
	pin, err := broker.PinOf(o.config.DataDir)
	if err != nil {
		return admin.State{}, nil, err
	}
	db, plan, err := lookAtState(ctx, o.config) // an older collector's is backed up as it is
	if err != nil {
		return admin.State{}, nil, explainDamage(ctx, o.config, err)
	}
	if plan.Empty {
		if err := registry.Migrate(ctx, db, schemas(), registry.Upgrade{}); err != nil {
			return admin.State{}, nil, errors.Join(err, db.Close())
		}
	}
	if o.config.Store.Write != "" {
		k := o.keeper(backup.Source{
			DataDir: o.config.DataDir, DB: db, Remote: o.config.Store.Write, Files: o.config.files, Pin: pin, Version: version(),
		})
		return admin.State{Backups: k}, func() { k.Close(); o.closed(db.Close()) }, nil
	}
	store, rolled, err := openToCopy(o.config, o.log)
	if err != nil {
		return admin.State{}, nil, errors.Join(explainDamage(ctx, o.config, err), db.Close())
	}
	k := o.keeper(backup.Source{
		DataDir: o.config.DataDir, DB: db, Store: store, Rollups: rolled, Files: o.config.files, Pin: pin, Version: version(),
	})
	return admin.State{Backups: k}, func() {
		k.Close()
		o.closed(errors.Join(closeCopied(store, rolled), db.Close()))
	}, nil
}

func (o offlineBackups) closed(err error) {
	if err != nil {
		o.log.Warn("close what was backed up", "err", err)
	}
}

// restore brings a backup back into the data directory.
func (o offlineBackups) restore(ctx context.Context, q admin.RestoreRequest) (backup.Result, error) {
	entry, err := backup.Find(ctx, o.config.backupsAt(q.Target), q.Name, q.At)
	if err == nil {
		err = entry.Err
	}
	if err != nil {
		return backup.Result{}, fmt.Errorf("restore: %w", err)
	}
	r := backup.Restore{
		Backup: entry.Location, S3: o.config.Backups.S3, DataDir: o.config.DataDir, ConfigTo: q.ConfigTo, Aside: q.Aside, SeriesOnly: q.SeriesOnly, Rate: o.config.Backups.Rate, Child: child(),
	}
	if !q.WithoutKeys && !q.SeriesOnly {
		named := q.Key
		if named == "" && o.config.Backups.Key != "" {
			named = o.config.Backups.KeyIn(o.config.DataDir)
		}
		if r.Key, err = backup.FindKey(named, o.config.DataDir, entry.Location, entry.Manifest); err != nil {
			return backup.Result{}, fmt.Errorf("restore: %w", err)
		}
	}
	res, err := r.Run(ctx)
	if err == nil && r.Key != "" {
		err = backup.KeepKey(r.Key, o.config.DataDir)
	}
	if err == nil && res.Config != "" {
		if lacks := unready(res.Config, o.config.DataDir); lacks != nil {
			o.log.Warn("the collector does not start as it was with the configuration that was put back", "err", lacks)
		}
	}
	return res, err
}

// unready says what keeps a collector from starting on a data directory with a configuration file, or from paging then.
func unready(file, dataDir string) error {
	c := DefaultConfig
	if err := c.read(file); err != nil {
		return err
	}
	f := c.files()
	errs := []error{c.Validate()}
	for _, path := range slices.Concat(f.Secret, f.Rules) {
		errs = append(errs, checkFile(path))
	}
	for _, text := range f.Unknown {
		errs = append(errs, errors.New(text))
	}
	if c.DataDir != dataDir {
		errs = append(errs, fmt.Errorf("data_dir is %s, restored is %s", c.DataDir, dataDir))
	}
	return errors.Join(errs...)
}

// backupsAt is the configuration of the backups with another target; "" is the
// configured one.
func (c *Config) backupsAt(target string) backup.Config {
	b := c.Backups
	if target != "" {
		b.Target = target
	}
	if b.Target == "" {
		b.Target = filepath.Join(c.DataDir, "backups")
	}
	return b
}

// configFlag is what a command needs to find the backups in a bucket.
func (c *Config) configFlag() string {
	if c.file == "" || !backup.InBucket(c.Backups.Target) {
		return ""
	}
	return " --config " + c.file
}

// backupStatus is what the pages show.
func (a *app) backupStatus() dashboards.Backups {
	s := a.backups.Status()
	v := dashboards.Backups{Target: s.Target, EverySeconds: int64(s.Every.Seconds()), Running: s.Running, Kept: []dashboards.Backup{}}
	if !s.AttemptAt.IsZero() {
		v.AttemptAt = s.AttemptAt.UnixMilli()
	}
	if err := errors.Join(s.AttemptErr, s.ListErr); err != nil {
		v.Error = err.Error()
	}
	for _, e := range s.Entries {
		b := dashboards.Backup{Name: e.Name, Result: e.Result(), Good: e.Good()}
		if m := e.Manifest; m != nil {
			b.Taken, b.Bytes, b.Rows, b.Series, b.Boards, b.Seconds = m.Taken.UnixMilli(), m.Bytes, m.Rows, m.Series, m.State.Boards, m.Seconds
			if m.Test != nil {
				b.TestedAt = m.Test.At.UnixMilli()
			}
		}
		v.Kept = append(v.Kept, b)
	}
	return v
}
