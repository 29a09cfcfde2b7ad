package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"bramble/collector/config"
	"bramble/collector/contents"
	"bramble/collector/registry"
)

const (
	// recordEvery is how often the record of the data directory's parts is compared with them: a store gets its first files some time
	// after the start.
	recordEvery = time.Minute
	// changesEvery is how soon a change of the registry is on the record: the loss of an older one is noticed.
	changesEvery = time.Second
)

// stateLog is the log of the state database, in the data directory. It exists while the database is open.
const stateLog = "state.db-wal"

// partsRecord records the parts of the data directory that the next start must find. The zero value records nothing.
type partsRecord struct {
	dir      string
	folders  []string // that may have content
	registry *registry.Registry
	log      *slog.Logger
}

func newPartsRecord(c config.Config, r *registry.Registry, log *slog.Logger) partsRecord {
	p := partsRecord{c.DataDir, []string{"journal"}, r, log}
	if c.Store.Write == "" {
		p.folders = append(p.folders, seriesDir, rollupsDir)
	}
	return p
}

func (p partsRecord) write() error {
	if p.registry == nil {
		return nil
	}
	c := contents.Contents{Changes: p.registry.Changes()}
	var err error
	if c.Folders, err = contents.With(p.dir, p.folders...); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(p.dir, stateLog)); err == nil {
		c.Files = []string{stateLog}
	}
	return contents.Write(p.dir, c)
}

// keep records the parts until ctx ends.
func (p partsRecord) keep(ctx context.Context) error {
	tick := time.NewTicker(changesEvery)
	defer tick.Stop()
	changes, compared := p.registry.Changes(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if changes == p.registry.Changes() && now.Sub(compared) < recordEvery {
				continue
			}
			changes, compared = p.registry.Changes(), now
			if err := p.write(); err != nil {
				p.log.Error("record the data directory's parts: a start cannot tell whether one of them vanished", "err", err)
			}
		}
	}
}

// checkChanges returns an error that wraps registry.ErrDamaged where the state has fewer changes than are on record: SQLite takes a log
// that was cut for a whole one.
func checkChanges(dir string, r *registry.Registry) error {
	c, err := contents.Read(dir)
	if err != nil || r.Changes() >= c.Changes {
		return err
	}
	return fmt.Errorf("%w: file %s ends with change %d of the registry, and change %d was seen: its log %s was cut, or an older state was put in its place; to go on with it, remove %s",
		registry.ErrDamaged, stateFile(dir), r.Changes(), c.Changes, stateLog, filepath.Join(dir, contents.Name))
}

// forgetLog takes the log of the state database off the record before a command opens the database: it ends with the command.
func forgetLog(dir string) error {
	if err := contents.Check(dir); err != nil {
		return err
	}
	c, err := contents.Read(dir)
	if err != nil || len(c.Files) == 0 {
		return err
	}
	c.Files = nil
	if err := contents.Write(dir, c); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}
