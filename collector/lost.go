package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"bramble/collector/contents"
)

// recordEvery is how often the record of the data directory's parts is compared with them: a store gets its first files some time
// after the start.
const recordEvery = time.Minute

// stateLog is the log of the state database, in the data directory. It exists while the database is open.
const stateLog = "state.db-wal"

// recordParts records the parts of the data directory that the next start must find.
func (a *app) recordParts() error {
	folders := []string{"journal"}
	if a.config.Store.Write == "" {
		folders = append(folders, seriesDir, rollupsDir)
	}
	var c contents.Contents
	var err error
	if c.Folders, err = contents.With(a.config.DataDir, folders...); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(a.config.DataDir, stateLog)); err == nil {
		c.Files = []string{stateLog}
	}
	return contents.Write(a.config.DataDir, c)
}

// keepRecord records the parts until ctx ends.
func (a *app) keepRecord(ctx context.Context) error {
	tick := time.NewTicker(recordEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := a.recordParts(); err != nil {
				a.log.Error("record the data directory's parts: a start cannot tell whether one of them vanished", "err", err)
			}
		}
	}
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
