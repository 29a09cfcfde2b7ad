package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"time"

	"bramble/alerting/rules"
	"bramble/collector/backup"
	"bramble/collector/broker"
	"bramble/collector/config"
	"bramble/collector/ingest"
	"bramble/collector/registry"
	"bramble/storage"
	"bramble/storage/statedb"
)

// schemas are the versions of all data in a data directory. A package with files of its own is one more line.
func schemas() []statedb.Schema {
	return []statedb.Schema{
		statedb.Tables(),
		statedb.Files("journal", ingest.JournalVersion),
		statedb.Files("checkpoint", rules.CheckpointVersion),
		statedb.Files("series", storage.SeriesVersion),
	}
}

// openState opens the state at this build's schema. What an older build has left
// is backed up first, and only a backup that was restored in a test lets the
// upgrade begin. The caller holds the directory's lock.
func openState(ctx context.Context, c config.Config, log *slog.Logger) (_ *sql.DB, err error) {
	db, plan, err := lookAtState(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	u := statedb.Upgrade{At: time.Now(), Collector: version()}
	if old := !plan.Empty && len(plan.Changes) > 0; old && c.UpgradeWithoutBackup {
		log.Warn("an older collector's data is upgraded without a backup, as --upgrade-without-backup says: there is no way back", "changes", plan)
	} else if old {
		log.Info("an older collector's data is upgraded; first a backup of it", "changes", plan)
		if u.Backup, err = backUpOld(ctx, c, db, log); err != nil {
			return nil, fmt.Errorf("upgrade %s: %w: nothing was changed, and the older collector still starts; to go on without a way back, add --upgrade-without-backup", c.DataDir, err)
		}
	}
	if err := statedb.Migrate(ctx, db, schemas(), u); err != nil {
		return nil, err
	}
	if u.Backup != "" {
		log.Info("upgraded", "way_back", "stop this collector, install the older one, and let it run: "+restoreCommand(c, u.Backup))
	}
	return db, nil
}

// openStateOffline opens the state for a command, which never upgrades it.
func openStateOffline(ctx context.Context, dir string) (*sql.DB, error) {
	c := config.Config{DataDir: dir}
	if err := forgetLog(dir); err != nil {
		return nil, explainDamage(ctx, c, err)
	}
	db, plan, err := lookAtState(ctx, c)
	if err != nil {
		return nil, explainDamage(ctx, c, err)
	}
	if !plan.Empty && len(plan.Changes) > 0 {
		err = fmt.Errorf("%s is an older collector's (%s): start this one once, which makes a backup of it and upgrades it", dir, plan)
	} else {
		err = statedb.Migrate(ctx, db, schemas(), statedb.Upgrade{})
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// lookAtState opens the state as it is. Where a newer collector has written it,
// the error names the way back.
func lookAtState(ctx context.Context, c config.Config) (*sql.DB, statedb.Plan, error) {
	if err := lostState(c.DataDir); err != nil {
		return nil, statedb.Plan{}, err
	}
	db, err := registry.OpenDB(stateFile(c.DataDir))
	if err != nil {
		return nil, statedb.Plan{}, err
	}
	plan, err := statedb.PlanUpgrade(ctx, db, schemas())
	if err != nil {
		return nil, plan, errors.Join(wayBack(c, err), db.Close())
	}
	return db, plan, nil
}

// stateFile is the state database of a data directory.
func stateFile(dir string) string { return filepath.Join(dir, "state.db") }

// journalDir is the journal of a data directory.
func journalDir(dir string) string { return filepath.Join(dir, "journal") }

// lostState returns an error where there is a journal and no state: a collector makes its state first.
func lostState(dir string) error {
	info, err := os.Stat(stateFile(dir))
	if err == nil && info.Size() > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if segments, _ := filepath.Glob(filepath.Join(journalDir(dir), "*.journal")); len(segments) > 0 { // the pattern is right
		return fmt.Errorf("%w: file %s is missing or empty, and its journal %s is not", registry.ErrDamaged, stateFile(dir), filepath.Dir(segments[0]))
	}
	return nil
}

// wayBack says how an older collector gets its data back.
func wayBack(c config.Config, err error) error {
	if errors.Is(err, statedb.ErrUnreleased) {
		return fmt.Errorf("open %s: %w", c.DataDir, err)
	}
	var newer *statedb.NewerError
	if !errors.As(err, &newer) {
		return err
	}
	by := "a newer collector"
	if newer.Last.Collector != "" {
		by = fmt.Sprintf("collector %s upgraded it at %s", newer.Last.Collector, newer.Last.At.UTC().Format(time.RFC3339))
	}
	if newer.Last.Backup == "" {
		return fmt.Errorf("open %s: %w (%s, without a backup): start that collector, or restore a backup from before: `collector backup list`", c.DataDir, err, by)
	}
	return fmt.Errorf("open %s: %w (%s): start that collector; or go back to the state before, which is in backup %s: %s",
		c.DataDir, err, by, path.Base(newer.Last.Backup), restoreCommand(c, newer.Last.Backup))
}

// restoreCommand brings a whole backup back and keeps the present data aside.
func restoreCommand(c config.Config, from string) string {
	return "collector backup restore " + from + " --aside --data-dir " + c.DataDir + c.BackupFlag()
}

// backUpOld makes a backup of the data as it is and restores it in a test, or
// finds one that was made since the data last changed: a start that fails after
// its backup is tried again, and must not fill the target. It returns what
// `collector backup restore` takes.
func backUpOld(ctx context.Context, c config.Config, db *sql.DB, log *slog.Logger) (string, error) {
	pin, err := broker.PinOf(c.DataDir)
	if err != nil {
		return "", err
	}
	changed, err := lastChange(c.DataDir)
	if err != nil {
		return "", err
	}
	if e, ok := goodSince(ctx, c, pin, changed); ok {
		log.Info("a backup of just this state is there", "backup", e.Name)
		return e.Location, nil
	}
	store, rolled, err := openToCopy(c, log)
	if err != nil {
		return "", err
	}
	k := backup.New(c.Backups, backup.Source{
		DataDir: c.DataDir, DB: db, Store: store, Rollups: rolled, Files: c.Files, Pin: pin, Version: version(),
	}, child(), log)
	defer k.Close()
	m, err := k.Create(ctx)
	if err := errors.Join(err, closeCopied(store, rolled)); err != nil {
		return "", err
	}
	log.Info("backup taken and restored in a test", "backup", m.Name, "bytes", m.Bytes, "rows", m.Rows, "series", m.Series)
	return k.LocationOf(m.Name), nil
}

// goodSince returns the newest good backup of this collector, where it was taken
// after an instant.
func goodSince(ctx context.Context, c config.Config, pin string, since time.Time) (backup.Entry, bool) {
	k := backup.New(c.Backups, backup.Source{DataDir: c.DataDir}, nil, nil)
	defer k.Close()
	all, err := k.List(ctx)
	if err != nil {
		return backup.Entry{}, false // making one names the fault
	}
	for _, e := range all {
		if e.Good() && e.Manifest.Pin == pin {
			return e, e.Manifest.Taken.After(since)
		}
	}
	return backup.Entry{}, false
}

// lastChange is when a collector or a command last wrote into the data
// directory: each reading goes through the journal, all else through state.db.
func lastChange(dir string) (last time.Time, err error) {
	for _, pattern := range []string{"state.db", "state.db-wal", "journal", "journal/*"} {
		found, _ := filepath.Glob(filepath.Join(dir, pattern)) // the patterns are right
		for _, name := range found {
			info, err := os.Stat(name)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return last, err
			}
			if err == nil && info.ModTime().After(last) && info.Size() > 0 {
				last = info.ModTime()
			}
		}
	}
	return last, nil
}

// keepStateEvery is how often the log of the state database is brought into it, and its reserve of disk space made whole.
const keepStateEvery = 10 * time.Second

// keepState keeps the log of the state database short, and disk space for both, until ctx ends. It says when it cannot
// and when it can again.
func (a *app) keepState(ctx context.Context) error {
	tick := time.NewTicker(keepStateEvery)
	defer tick.Stop()
	logFails, reserveFails := false, false
	for {
		err := a.reserve.Checkpoint(ctx)
		if failing := err != nil && ctx.Err() == nil; failing != logFails {
			logFails = failing
			a.log.Warn("the log of the state database is brought into it", "failing", failing, "err", err)
		}
		err = a.reserve.Keep()
		if failing := err != nil; failing != reserveFails {
			reserveFails = failing
			a.log.Warn("disk space for the state database is reserved", "failing", failing, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
