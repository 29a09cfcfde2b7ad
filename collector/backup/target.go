package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Unfinished folders begin with a dot and end with one of these.
const (
	partial = ".partial" // a backup that is being written
	scratch = ".scratch" // a test restore
)

// ErrNone is wrapped where no backup answers a description.
var ErrNone = errors.New("no such backup")

// Entry is one backup in a target. Where Err is not nil it cannot be used and Manifest may be nil.
type Entry struct {
	Name     string
	Location string // as [Find] takes it: its folder's path, or s3://BUCKET/PREFIX/NAME
	Manifest *Manifest
	Err      error
}

// Good reports whether the entry was restored successfully when it was last tried.
func (e *Entry) Good() bool { return e.Err == nil && e.Manifest.Good() }

// Result is the state of the entry in a few words.
func (e *Entry) Result() string {
	switch {
	case e.Err != nil:
		return "damaged: " + e.Err.Error()
	case e.Manifest.Test == nil:
		return "never tested"
	case e.Manifest.Test.Error != "":
		return "bad: " + e.Manifest.Test.Error
	case len(e.Manifest.Missing()) > 0:
		return "good, but without files of the configuration: " + strings.Join(e.Manifest.Missing(), "; ")
	}
	return "good"
}

// listOf returns the backups of a place, the newest first.
func listOf(ctx context.Context, p place) ([]Entry, error) {
	names, err := p.list(ctx)
	if err != nil {
		return nil, err
	}
	var all []Entry
	for _, name := range names {
		e := look(ctx, p, name)
		if errors.Is(e.Err, errUnreachable) {
			return nil, e.Err
		}
		if _, remote := p.(*bucket); remote && errors.Is(e.Err, fs.ErrNotExist) {
			continue // an upload that has not ended, which has no hidden name
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(b.Name, a.Name) })
	return all, nil
}

// List returns the backups of the keeper's target, the newest first.
func (k *Keeper) List(ctx context.Context) ([]Entry, error) {
	p, err := k.place()
	if err != nil {
		return nil, err
	}
	return listOf(ctx, p)
}

// look reads one entry.
func look(ctx context.Context, p place, name string) Entry {
	s := p.at(name)
	e := Entry{Name: name, Location: s.String()}
	if e.Manifest, e.Err = readManifest(ctx, s); e.Err == nil && e.Manifest.Name != e.Name {
		e.Err = fmt.Errorf("its folder is named %s, its manifest %s: give the folder its name back", e.Name, e.Manifest.Name)
	}
	return e
}
