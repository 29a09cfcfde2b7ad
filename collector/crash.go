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

	"bramble/storage"
)

// Names in the data directory.
const (
	crashFile   = "crash.log"        // what the running collector says should it crash; empty until then
	crashBefore = "crash-before.log" // of the last one that did
)

const (
	// crashApart is the time within which two crashes of the engine are one story.
	crashApart = time.Hour
	// maxCrash bounds what is read of a crash, maxCrashLine what is shown.
	maxCrash     = 1 << 20
	maxCrashLine = 200
)

// engineFrame is in the trace of a crash that began in the store's engine.
var engineFrame = []byte("github.com/VictoriaMetrics/VictoriaMetrics/")

// afterCrash looks at how the last run ended. Where the store's engine ended the process, which it does at damage that it
// meets and for want of files, memory or disk, this start pages before it opens the stores (latestart.go), and a second
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

// readCrash returns what the last run has left; nothing where it was killed or stopped.
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

// crashLine is the beginning of what a crash said.
func crashLine(crash []byte) string {
	line, _, _ := bytes.Cut(crash, []byte("\n"))
	return string(line[:min(len(line), maxCrashLine)])
}
