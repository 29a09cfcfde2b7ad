package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// place holds backups: a directory, or a bucket of an S3-compatible store.
type place interface {
	// take makes the place ready for a change by this process alone.
	take(ctx context.Context) (release func(), err error)
	// sweep removes the remains of killed processes. The caller has taken the place.
	sweep(ctx context.Context) error
	// list names the folders that may be backups, in no order. A place that is not there holds none.
	list(ctx context.Context) ([]string, error)
	at(name string) shelf
	// begin starts a new backup.
	begin(ctx context.Context, name string) (draft, error)
	// remove deletes a backup. Its manifest goes first: the remains of a removal that was cut short are no backup.
	remove(ctx context.Context, name string) error
	// scratch is the local directory where test restores lie.
	scratch() string
}

// shelf is where one backup lies, whether it is there or not.
type shelf interface {
	// open reads a file. Where the file is not there the error wraps fs.ErrNotExist, at once or with the first Read.
	open(ctx context.Context, name string) (io.ReadCloser, error)
	// write replaces a small file as a whole.
	write(ctx context.Context, name string, data []byte) error
	// String is the shelf as [Find] takes it.
	String() string
}

// draft is a backup that is being written.
type draft interface {
	// dir is the local directory in which all but the series gathers.
	dir() string
	// series takes one file of the series.
	series(ctx context.Context, c *copier, from, name string) (FileSum, error)
	// publish makes it a backup: everything is safe before the manifest is there.
	publish(ctx context.Context, m *Manifest) error
	// discard removes all of it.
	discard() error
}

// errUnreachable is wrapped where a place does not answer, which says nothing about the backups in it.
var errUnreachable = errors.New("the backups' target does not answer")

// bucketScheme begins targets in a bucket.
const bucketScheme = "s3://"

// InBucket reports whether a target or a backup's location is in a bucket rather than a path.
func InBucket(target string) bool { return strings.HasPrefix(target, bucketScheme) }

// SplitLocation takes the location of one backup apart; ok is false where it is a mere name.
func SplitLocation(location string) (target, name string, ok bool) {
	if InBucket(location) {
		rest := path.Clean(strings.TrimPrefix(location, bucketScheme))
		return bucketScheme + path.Dir(rest), path.Base(rest), true
	}
	if !strings.ContainsRune(location, filepath.Separator) {
		return "", location, false
	}
	clean := filepath.Clean(location)
	return filepath.Dir(clean), filepath.Base(clean), true
}

// open returns the place of a configuration; local is where a bucket's test restores may lie.
func (c Config) open(local string, mayMake bool) (place, error) {
	if InBucket(c.Target) {
		return openBucket(c.Target, c.S3, local)
	}
	return folder{c.Target, mayMake}, nil
}

// List returns the backups of the configuration's target, the newest first. A target that is not there holds none.
func List(ctx context.Context, c Config) ([]Entry, error) {
	p, err := c.open("", false)
	if err != nil {
		return nil, err
	}
	return listOf(ctx, p)
}

// Find returns the backup that a name or its location describes. Without a name it is the newest good one that was not
// taken after a point in time; the zero point is the end of time.
func Find(ctx context.Context, c Config, name string, point time.Time) (Entry, error) {
	target, base, located := SplitLocation(name)
	if located {
		c.Target, name = target, base
	}
	p, err := c.open("", false)
	if err != nil {
		return Entry{}, err
	}
	if name != "" {
		if !located && !validName(name) {
			return Entry{}, fmt.Errorf("backup %q: %w: `collector backup list` shows the names, such as %s", name, ErrNone, nameLayout)
		}
		return named(ctx, p, c.Target, name)
	}
	return newestGood(ctx, p, c.Target, point)
}

func named(ctx context.Context, p place, target, name string) (Entry, error) {
	e := look(ctx, p, name)
	if errors.Is(e.Err, errUnreachable) {
		return e, e.Err
	}
	if f, local := p.(folder); errors.Is(e.Err, fs.ErrNotExist) && !(local && f.holds(name)) {
		return Entry{}, fmt.Errorf("backup %s: %w in %s: `collector backup list` shows the names", name, ErrNone, target)
	}
	return e, nil
}

func newestGood(ctx context.Context, p place, target string, point time.Time) (Entry, error) {
	all, err := listOf(ctx, p)
	if err != nil {
		return Entry{}, err
	}
	for _, e := range all {
		if e.Good() && (point.IsZero() || !e.Manifest.Taken.After(point)) {
			return e, nil
		}
	}
	if !point.IsZero() {
		return Entry{}, fmt.Errorf("%w: none in %s that restores was taken by %s", ErrNone, target, point.UTC().Format(time.RFC3339))
	}
	return Entry{}, fmt.Errorf("%w: %s holds none that is known to restore: `collector backup list` shows all", ErrNone, target)
}
