package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/rehearse"
	"bramble/alerting/rules"
	"bramble/collector/admin"
	"bramble/collector/config"
	"bramble/storage"
)

const (
	// rehearseAtMost ends a rehearsal that asks for too much.
	rehearseAtMost = 15 * time.Minute
	// maxRehearsed is what goes through the control socket, in bytes of rule files.
	maxRehearsed = 700_000
)

// rehearseGrammar is what a person types; admin's has the files' text in place of their names.
type rehearseGrammar struct {
	Since string   `default:"30d" help:"How far to go back, such as 30d or 12h."`
	Zone  string   `default:"UTC" help:"Time zone of the nights (22:00 to 07:00), such as Europe/Berlin."`
	JSON  bool     `name:"json" help:"Print JSON."`
	Files []string `arg:"" name:"file" help:"Rule files, or patterns."`
}

// rehearseRules sends rule files to the collector that holds the data directory, or runs them here while none does.
func rehearseRules(ctx context.Context, dir string, g rehearseGrammar, stdout, stderr io.Writer) error {
	files, err := readRules(g.Files)
	if err != nil {
		return err
	}
	if _, err := rules.Load(files); err != nil {
		return err
	}
	args, size := []string{"rules", "rehearse", "--since=" + g.Since, "--zone=" + g.Zone}, 0
	if g.JSON {
		args = append(args, "--json")
	}
	args = append(args, "--")
	for name, text := range files {
		args = append(args, name+"\n"+string(text))
		size += len(text)
	}
	if size > maxRehearsed {
		return fmt.Errorf("rehearse rules: the files have %d bytes, more than %d: give fewer", size, maxRehearsed)
	}
	return admin.Dispatch(ctx, dir, args, nil, stdout, stderr, func() (admin.State, func(), error) { return openRehearsal(ctx, dir) })
}

// openRehearsal opens registry and series. The caller holds the directory's lock.
func openRehearsal(ctx context.Context, dir string) (admin.State, func(), error) {
	s, done, err := openOffline(ctx, dir)
	if err != nil {
		return s, done, err
	}
	store, err := storage.Open(filepath.Join(dir, seriesDir), storage.Options{Retention: config.MaxRetention}) // opening drops nothing
	if err != nil {
		done()
		return s, nil, err
	}
	s.Rehearse = func(ctx context.Context, q admin.RehearseRequest) (*rehearse.Rehearsal, error) {
		return rehearseStored(ctx, store, placesOf(s.Registry), q)
	}
	return s, func() { store.Close(); done() }, nil
}

func rehearseStored(ctx context.Context, store rules.RangeQuerier, places map[string]alert.Place, q admin.RehearseRequest) (*rehearse.Rehearsal, error) {
	loaded, err := rules.Load(q.Files)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, rehearseAtMost, fmt.Errorf("took longer than %s: ask for less with --since, or fewer rules", rehearseAtMost))
	defer cancel()
	to := time.Now()
	r, err := rehearse.Run(ctx, rehearse.Options{
		Rules: loaded, Store: store, Fleet: places, From: to.Add(-q.Since), To: to, Zone: q.Zone,
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return nil, fmt.Errorf("%w: %w", err, cause)
	}
	return r, err
}
