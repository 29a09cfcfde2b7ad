package backup

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"bramble/collector/config/unit"
	"bramble/storage"
)

// Config holds an operator's settings. The zero value takes backups on command only, into DATA/backups.
type Config struct {
	// Target is the directory of the backups; "" = backups in the data directory. One that is named must be there:
	// an absent disk is not to be mistaken for an empty one. s3://BUCKET/PREFIX is a bucket, reached as S3 says.
	Target string        `yaml:"target" file:"not in backups"`
	S3     S3            `yaml:"s3"`
	Every  unit.Duration `yaml:"every"`                     // how often one is taken; 0 = on command only
	Keep   Keep          `yaml:"keep"`                      // how many are kept; used only with Every
	Key    string        `yaml:"key" file:"not in backups"` // age identity file, as KeyIn takes it
	Rate   unit.Size     `yaml:"rate"`                      // a second that are read and written; 0 = DefaultRate
}

// DefaultRate leaves a disk's bandwidth to others, in bytes a second.
const DefaultRate = 100 << 20

// KeyIn is the age identity file of a collector with a data directory: there it makes one, as [KeyName], or under the
// relative path that is configured.
func (c Config) KeyIn(dataDir string) string {
	if filepath.IsAbs(c.Key) {
		return c.Key
	}
	return filepath.Join(dataDir, cmp.Or(c.Key, KeyName))
}

// Source is the collector that is backed up.
type Source struct {
	DataDir string
	DB      *sql.DB        // DATA/state.db
	Store   *storage.Store // nil where the series are in a remote store
	Rollups *storage.Store // nil: there are none
	Remote  string         // its URL
	// Hold waits until the store has all acknowledged readings and keeps the journal as it is until release; nil
	// where no collector runs.
	Hold    func(ctx context.Context) (release func(), err error)
	Files   func() Files // of the configuration; nil = none
	Pin     string       // of the collector's CA
	Version string
	// Spare is the name of a backup that pruning never removes: the way back from the last upgrade. "" = none.
	Spare string
}

// Keeper makes, tests, lists and prunes the backups of one collector. It is safe for concurrent use; one backup or
// test runs at a time.
type Keeper struct {
	config  Config
	source  Source
	child   []string
	mayMake bool // the target is made where it is missing
	log     *slog.Logger

	base context.Context // ends everything that runs
	stop context.CancelFunc
	busy sync.Mutex // held while a backup or a test runs

	mu      sync.Mutex
	status  Status
	changed chan struct{} // capacity 1: the status has changed
}

// New returns a keeper. child is the command line that runs [Check] in a process of its own; it is started with one
// more argument. The keeper touches nothing before its first use.
func New(c Config, s Source, child []string, log *slog.Logger) *Keeper {
	if abs, err := filepath.Abs(s.DataDir); err == nil {
		s.DataDir = abs
	}
	mayMake := c.Target == ""
	if mayMake {
		c.Target = filepath.Join(s.DataDir, "backups")
	}
	c.Key = c.KeyIn(s.DataDir)
	if c.Rate == 0 {
		c.Rate = DefaultRate
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{config: c, source: s, child: child, mayMake: mayMake, log: log, changed: make(chan struct{}, 1)}
	k.base, k.stop = context.WithCancel(context.Background())
	k.status = Status{Target: c.Target, Every: time.Duration(c.Every)}
	return k
}

// Close cancels a running backup or test, without waiting for it.
func (k *Keeper) Close() { k.stop() }

// Key is the file that opens the secrets of the backups.
func (k *Keeper) Key() string { return k.config.Key }

// place opens the target.
func (k *Keeper) place() (place, error) { return k.config.open(k.source.DataDir, k.mayMake) }

// LocationOf is where a backup of a name lies, as [Find] takes it.
func (k *Keeper) LocationOf(name string) string {
	if InBucket(k.config.Target) {
		return strings.TrimSuffix(k.config.Target, "/") + "/" + name
	}
	return filepath.Join(k.config.Target, name)
}

// Changed receives after the status has changed.
func (k *Keeper) Changed() <-chan struct{} { return k.changed }

// Into returns a keeper of the same collector with another target, which must be there like a configured one.
func (k *Keeper) Into(target string) *Keeper {
	if target == "" || target == k.config.Target {
		return k
	}
	c := k.config
	c.Target = target
	return New(c, k.source, k.child, k.log)
}

// within joins a caller's context with the keeper's own.
func (k *Keeper) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(k.base, func() { cancel(errors.New("the collector stops")) })
	return ctx, func() { stop(); cancel(nil) }
}

// Create makes a backup, tests it, and returns its manifest. Where the test fails the manifest is returned together
// with the error.
func (k *Keeper) Create(ctx context.Context) (m *Manifest, err error) {
	k.busy.Lock()
	defer k.busy.Unlock()
	ctx, cancel := k.within(ctx)
	defer cancel()
	started := time.Now()
	k.begin()
	defer func() { k.end(started, err) }()
	if m, err = k.create(ctx, started); err != nil {
		return m, fmt.Errorf("back up %s to %s: %w", k.source.DataDir, k.config.Target, causeOf(ctx, err))
	}
	return m, nil
}

// causeOf prefers the reason why a context has ended to the error that followed.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (k *Keeper) create(ctx context.Context, now time.Time) (*Manifest, error) {
	p, release, err := k.takeTarget(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	m, err := k.build(ctx, p, now)
	if err != nil {
		return nil, err
	}
	return m, k.test(ctx, p, m)
}

// Verify tests a backup once more and notes the result in its manifest. name is one of the target's, "" the newest.
func (k *Keeper) Verify(ctx context.Context, name string) (*Manifest, error) {
	k.busy.Lock()
	defer k.busy.Unlock()
	ctx, cancel := k.within(ctx)
	defer cancel()
	p, release, err := k.takeTarget(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	defer k.refresh()
	entry, err := Find(ctx, k.config, name, time.Time{})
	if err != nil {
		return nil, err
	}
	if entry.Err != nil {
		return nil, fmt.Errorf("verify backup %s: %w", entry.Name, entry.Err)
	}
	return entry.Manifest, causeOf(ctx, k.test(ctx, p, entry.Manifest))
}

// takeTarget opens the target for a change and removes the remains of killed processes there.
func (k *Keeper) takeTarget(ctx context.Context) (p place, release func(), err error) {
	if p, err = k.place(); err != nil {
		return nil, nil, err
	}
	if release, err = p.take(ctx); err != nil {
		return nil, nil, err
	}
	if err := p.sweep(ctx); err != nil && ctx.Err() == nil {
		k.log.Warn("remains of an unfinished backup are not removed", "target", k.config.Target, "err", err)
	}
	return p, release, nil
}
