package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"bramble/collector/admin"
	"bramble/collector/config"
	"bramble/collector/registry"
)

type checkStateFlags struct {
	Config  string `help:"The collector's configuration, which names the data directory and where backups are." placeholder:"FILE"`
	DataDir string `help:"The collector's data directory." placeholder:"DIR"`
}

// runCheckState checks the whole state database, however long that takes; a start has a second for it. Its log is looked
// at as well while nobody writes it.
func runCheckState(ctx context.Context, f checkStateFlags, stdout io.Writer) error {
	c := config.Default
	if f.Config != "" {
		var err error
		if c, err = config.Read(f.Config); err != nil {
			return err
		}
	}
	if f.DataDir != "" {
		c.DataDir = f.DataDir
	}
	var err error
	if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
		return err
	}
	found, err := checkState(ctx, c.DataDir)
	if err != nil {
		return explainDamage(ctx, c, err)
	}
	fmt.Fprintf(stdout, "%s is whole: boards %d, enrolled %d, users %d, API tokens %d\n", stateFile(c.DataDir), found.Boards, found.Enrolled, found.Users, found.Tokens)
	return nil
}

func checkState(ctx context.Context, dir string) (found registry.Contents, err error) {
	if err := lostState(dir); err != nil {
		return found, err
	}
	path := stateFile(dir)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return found, fmt.Errorf("there is no collector's data in %s: name its directory with --data-dir DIR", dir)
	}
	release, err := admin.Lock(dir)
	if err == nil {
		defer func() { err = errors.Join(err, release()) }()
		err = registry.CheckLog(path)
	}
	if err != nil && !errors.Is(err, admin.ErrLocked) {
		return found, err
	}
	return registry.CheckDB(ctx, path)
}
