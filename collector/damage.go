package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bramble/collector/backup"
	"bramble/collector/config"
	"bramble/collector/journal"
	"bramble/collector/registry"
	"bramble/storage"
)

// exitDamaged is the exit status where files of the data directory are damaged:
// EX_DATAERR of sysexits.h. To start again does not help, and the service file
// tells systemd so.
const exitDamaged = 65

// errDamaged stands for damaged files: a person has to decide.
var errDamaged = errors.New("nothing was changed")

// explainDamage adds to an error that comes from damaged files which file it is
// and the command that brings the newest good backup back, where there is one.
func explainDamage(ctx context.Context, c config.Config, err error) error {
	options := "--aside"
	switch {
	case errors.Is(err, storage.ErrDamagedQueue): // no backup has it
		return fmt.Errorf("%w; %w", err, errDamaged)
	case errors.Is(err, storage.ErrDamaged):
		options = "--series-only --aside"
	case errors.Is(err, registry.ErrDamaged), errors.Is(err, journal.ErrDamaged):
	case registry.IsDamaged(err): // found while it was in use
		err = fmt.Errorf("%w: file %s: %w", registry.ErrDamaged, stateFile(c.DataDir), err)
	default:
		return err
	}
	entry, none := backup.Find(ctx, c.BackupsAt(""), "", time.Time{})
	if none != nil {
		return fmt.Errorf("%w; %w; %w", err, none, errDamaged)
	}
	return fmt.Errorf("%w; %w; the newest good backup is %s, and this brings it back: collector backup restore %s %s --data-dir %s%s",
		err, errDamaged, entry.Name, entry.Location, options, c.DataDir, c.BackupFlag())
}
