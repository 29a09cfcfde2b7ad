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

	"bramble/collector/admin"
	"bramble/collector/backup"
	"bramble/collector/broker"
	"bramble/collector/config"
	"bramble/dashboards"
	"bramble/storage/statedb"
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

// openBackups makes the keeper of the collector's backups, which does nothing
// before run.
func (a *app) openBackups(ctx context.Context) error {
	last, err := statedb.LastUpgrade(ctx, a.db)
	if err != nil {
		return fmt.Errorf("read the last upgrade: %w", err)
	}
	spare := ""
	if last.Backup != "" {
		spare = path.Base(last.Backup)
	}
	a.backups = backup.New(a.config.Backups, backup.Source{
		DataDir: a.config.DataDir, DB: a.db, Store: a.embedded, Rollups: a.rolled, Remote: a.config.Store.Write, Hold: a.ingest.Hold,
		Files: a.config.Files, Pin: a.broker.Pin(), Version: version(),
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
	c := config.Default
	if file != "" {
		if c, err = config.Read(file); err != nil {
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
	config config.Config
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

// open opens the command's sources. The caller holds the directory's lock.
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
		if err := statedb.Migrate(ctx, db, schemas(), statedb.Upgrade{}); err != nil {
			return admin.State{}, nil, errors.Join(err, db.Close())
		}
	}
	if o.config.Store.Write != "" {
		k := o.keeper(backup.Source{
			DataDir: o.config.DataDir, DB: db, Remote: o.config.Store.Write, Files: o.config.Files, Pin: pin, Version: version(),
		})
		return admin.State{Backups: k}, func() { k.Close(); o.closed(db.Close()) }, nil
	}
	store, rolled, err := openToCopy(o.config, o.log)
	if err != nil {
		return admin.State{}, nil, errors.Join(explainDamage(ctx, o.config, err), db.Close())
	}
	k := o.keeper(backup.Source{
		DataDir: o.config.DataDir, DB: db, Store: store, Rollups: rolled, Files: o.config.Files, Pin: pin, Version: version(),
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
	entry, err := backup.Find(ctx, o.config.BackupsAt(q.Target), q.Name, q.At)
	if err == nil {
		err = entry.Err
	}
	if err != nil {
		return backup.Result{}, fmt.Errorf("restore: %w", err)
	}
	r := backup.Restore{
		Backup: entry.Location, S3: o.config.Backups.S3, DataDir: o.config.DataDir, ConfigTo: q.ConfigTo, Aside: q.Aside, SeriesOnly: q.SeriesOnly, Rate: int64(o.config.Backups.Rate), Child: child(),
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
	c, err := config.Read(file)
	if err != nil {
		return err
	}
	f := c.Files()
	errs := []error{c.Validate()}
	for _, path := range slices.Concat(f.Secret, f.Rules) {
		errs = append(errs, config.CheckFile(path))
	}
	for _, text := range f.Unknown {
		errs = append(errs, errors.New(text))
	}
	if c.DataDir != dataDir {
		errs = append(errs, fmt.Errorf("data_dir is %s, restored is %s", c.DataDir, dataDir))
	}
	return errors.Join(errs...)
}

// backupStatus is the state of the backups for the pages and the daily mail.
func backupStatus(k *backup.Keeper) dashboards.Backups {
	status := k.Status()
	v := dashboards.Backups{Target: status.Target, EverySeconds: int64(status.Every.Seconds()), Running: status.Running, Kept: []dashboards.Backup{}}
	if !status.AttemptAt.IsZero() {
		v.AttemptAt = status.AttemptAt.UnixMilli()
	}
	if err := errors.Join(status.AttemptErr, status.ListErr); err != nil {
		v.Error = err.Error()
	}
	for _, e := range status.Entries {
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
