package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/collector/backup"
	"bramble/collector/broker"
	"bramble/collector/config"
	"bramble/collector/contents"
	"bramble/collector/journal"
	"bramble/collector/registry"
	"bramble/storage"
	"bramble/storage/remote"
)

// Names in the data directory.
const (
	crashFile   = "crash.log"        // the running collector's words should it crash; empty until then
	crashBefore = "crash-before.log" // of the last one that did
)

const (
	// crashApart is the time within which two crashes of the engine are one story.
	crashApart = time.Hour
	// maxCrash bounds the part of a crash that is read, maxCrashLine the one that is shown.
	maxCrash     = 1 << 20
	maxCrashLine = 200
)

// engineFrame is in the trace of a crash that began in the store's engine.
var engineFrame = []byte("github.com/VictoriaMetrics/VictoriaMetrics/")

// afterCrash looks at how the last run ended. Where the store's engine ended the process, which it does at damage that it
// meets and for want of files, memory or disk, this start pages before it opens the stores (lateStart), and a second
// crash within an hour makes it wait for longer: a store never makes the collector crash again and again. A crash from
// now on is written to a file.
func (a *app) afterCrash() error {
	path, before := filepath.Join(a.config.DataDir, crashFile), filepath.Join(a.config.DataDir, crashBefore)
	crash, err := readCrash(path)
	if err != nil {
		return fmt.Errorf("look for a crash of the last run: %w", err)
	}
	twice := recentCrash(before)
	if len(crash) > 0 {
		a.log.Error("the last run ended in a crash", "what", crashLine(crash), "trace", before)
		if err := os.Rename(path, before); err != nil {
			return fmt.Errorf("keep the trace of the last run's crash: %w", err)
		}
	}
	if err := a.recordCrashes(path); err != nil { // as on a full disk
		a.log.Warn("a crash will be told on stderr alone", "err", err)
	}
	if !ofEngine(crash) || a.config.Store.Write != "" {
		return nil
	}
	a.late = lateStart{after: lateAfter, examine: !storage.IsWant(crash),
		why: fmt.Errorf("its engine has ended the last run: %s", crashLine(crash))}
	if twice {
		a.late.after = lateAfterTwice
		a.late.why = fmt.Errorf("its engine has ended the process twice within an hour: %s; the trace is in %s", crashLine(crash), before)
	}
	return nil
}

// examine reads both stores as a whole.
func (a *app) examine(ctx context.Context) error {
	a.log.Info("the stores are read as a whole before they are opened: their engine ended the last run")
	for _, name := range []string{seriesDir, rollupsDir} {
		dir := filepath.Join(a.config.DataDir, name)
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := storage.Examine(ctx, dir, storage.Options{MemoryBytes: int64(a.config.Memory), Log: a.log}); err != nil {
			return err
		}
	}
	return nil
}

// recordCrashes has the runtime write to a file, beside stderr, what ends the process by a panic or a fault.
func (a *app) recordCrashes(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	a.defers("crash file", func() error {
		err := forgetCrash(path)
		if a.late.damaged { // the next start reads the stores again before it opens them
			err = errors.Join(err, os.Rename(filepath.Join(a.config.DataDir, crashBefore), path))
		}
		return err
	})
	return errors.Join(debug.SetCrashOutput(f, debug.CrashOptions{}), f.Close())
}

// forgetCrash ends the recording, of which nothing came.
func forgetCrash(path string) error {
	err := debug.SetCrashOutput(nil, debug.CrashOptions{})
	if info, statErr := os.Stat(path); statErr == nil && info.Size() == 0 {
		return errors.Join(err, os.Remove(path))
	}
	return err
}

// readCrash returns the last run's report of a crash; nothing where it was killed or stopped.
func readCrash(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b[:min(len(b), maxCrash)], err
}

// recentCrash reports whether there is the trace of an earlier crash of the engine, and not an old one.
func recentCrash(path string) bool {
	info, err := os.Stat(path)
	if err != nil || time.Since(info.ModTime()) > crashApart {
		return false
	}
	crash, err := readCrash(path)
	return err == nil && ofEngine(crash)
}

// ofEngine reports whether the goroutine that crashed was in the store's engine.
func ofEngine(crash []byte) bool {
	what, trace, ok := bytes.Cut(crash, []byte("\ngoroutine "))
	if !ok {
		return false
	}
	first, _, _ := bytes.Cut(trace, []byte("\n\n"))
	return bytes.Contains(first, engineFrame) || bytes.Contains(what, engineFrame) // an exit that was turned into a panic has its own trace
}

// crashLine is the beginning of a crash's message.
func crashLine(crash []byte) string {
	line, _, _ := bytes.Cut(crash, []byte("\n"))
	return string(line[:min(len(line), maxCrashLine)])
}

// When a store is opened that could not be opened at the start, or was not to be.
const (
	// lateAfter leaves time for the pages of events that happened meanwhile: opening the store may end the process once more.
	lateAfter = 3 * time.Second
	// lateAfterTwice is after the second crash of the engine within an hour.
	lateAfterTwice = 10 * time.Minute
	// lateSoon is how soon opening it is tried again where it fails, twice as long each time up to lateEvery.
	lateSoon  = time.Second
	lateEvery = time.Minute
)

// lateStart is how a start goes on without its store: boards are acknowledged, the journal keeps their readings, pages
// leave. The zero value opens the store at once.
type lateStart struct {
	after   time.Duration
	why     error // why it is not open; nil once it is
	examine bool  // read the stores as a whole first: the engine may have met damage
	damaged bool  // a part of it is: it is not opened
}

// startStores opens the stores at once, unless their engine has ended the last run. Damage ends the start, any other
// failure does not.
func (a *app) startStores(ctx context.Context) error {
	a.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "bramble_store_open", Help: "1 while the store in the data directory is open; without it the journal keeps what boards send.",
	}, func() float64 {
		if a.embedded.IsOpen() {
			return 1
		}
		return 0
	}))
	if a.late.why != nil {
		a.log.Error("the store is not opened yet: the journal keeps readings, and pages go on", "dir", a.embedded.Dir(), "after", a.late.after, "err", a.late.why)
		return nil
	}
	err := a.tryStores(ctx)
	if err == nil || errors.Is(err, storage.ErrDamaged) {
		return err
	}
	a.late = lateStart{after: lateSoon, why: err}
	a.log.Error("the store cannot be opened: the journal keeps readings, pages go on, and it is tried again", "err", err)
	return nil
}

// tryStores opens the rollups, then the raw readings: for as long as something in them is not rolled up, those are kept
// beyond their retention.
func (a *app) tryStores(ctx context.Context) error {
	if !a.rolled.IsOpen() {
		if err := a.rolled.Start(0); err != nil {
			return err
		}
	}
	retention, err := storage.RetentionFor(ctx, a.embedded.Dir(), a.rolled, time.Duration(a.config.Retention))
	if err != nil {
		return err
	}
	if retention != time.Duration(a.config.Retention) {
		a.log.Info("readings that are not rolled up yet are kept for longer than configured, until the next start after that", "configured", a.config.Retention, "kept", retention)
	}
	return a.embedded.Start(retention)
}

// openLate opens the stores when it is time, however often that takes. Damage it says once, with the way back, and
// leaves them shut: pages are worth more than graphs. It returns when the stores are open or ctx ends.
func (a *app) openLate(ctx context.Context) {
	next := lateSoon
	for wait := a.late.after; ; wait, next = next, min(2*next, lateEvery) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		err := a.openNow(ctx)
		switch {
		case err == nil:
			a.log.Info("the store is open: it takes what the journal has kept")
			return
		case ctx.Err() != nil:
			return
		case errors.Is(err, storage.ErrDamaged):
			a.late.damaged = true
			a.log.Error("the store stays shut until it is restored: the journal keeps readings, and pages go on", "err", config.OneLine(explainDamage(ctx, a.config, err)))
			<-ctx.Done()
			return
		}
		a.log.Error("the store cannot be opened yet", "err", err, "again_in", next)
	}
}

func (a *app) openNow(ctx context.Context) error {
	if a.late.examine {
		if err := a.examine(ctx); err != nil {
			return err
		}
		a.late.examine = false
		a.log.Info("no file of the store is damaged")
	}
	if err := a.tryStores(ctx); err != nil {
		return err
	}
	return a.rollups.Resume(ctx)
}

// exitDamaged is the exit status where files of the data directory are damaged:
// EX_DATAERR of sysexits.h. To start again does not help, and the service file
// tells systemd so.
const exitDamaged = 65

// errDamaged stands for damaged files: a person has to decide.
var errDamaged = errors.New("nothing was changed")

// explainDamage adds to an error that comes from damaged files which file it is
// and the command that brings the newest good backup back, where there is one.
func explainDamage(ctx context.Context, c config.Config, err error) error {
	options, lost := "--aside", (*contents.LostError)(nil)
	switch {
	case errors.As(err, &lost) && (lost.Name == seriesDir || lost.Name == rollupsDir):
		options = "--series-only --aside"
	case lost != nil:
	case errors.Is(err, remote.ErrDamagedQueue): // no backup has it
		return fmt.Errorf("%w; %w", err, errDamaged)
	case errors.Is(err, storage.ErrDamaged):
		options = "--series-only --aside"
	case errors.Is(err, registry.ErrDamaged), errors.Is(err, journal.ErrDamaged), errors.Is(err, broker.ErrDamaged):
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
