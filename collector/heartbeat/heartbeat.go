package heartbeat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sync"
	"time"
)

const (
	// MaxNames bounds how many heartbeats there are: each is two series.
	MaxNames = 1000
	// MaxMessage bounds a ping's message, in bytes.
	MaxMessage = 200
	// DefaultWithin is the deadline of a first ping that names none: a daily job, and an hour to be late.
	DefaultWithin = 25 * time.Hour
	// Deadlines are between these.
	minWithin, maxWithin = 30 * time.Second, 62 * 24 * time.Hour
	// startGrace is how long after the collector's start no further heartbeat becomes overdue.
	startGrace = time.Minute
	// aliveEvery is how often the collector notes that it runs: the most by which a downtime is misjudged.
	aliveEvery = 10 * time.Second
	// keepRemoved is how long a removed heartbeat is still said to be well, so that its alert ends.
	keepRemoved = 10 * time.Minute
)

var (
	// ErrUnknown is wrapped for a heartbeat that does not exist.
	ErrUnknown = errors.New("no such heartbeat")
	// ErrBad is wrapped for a ping that is malformed, or beyond the limit.
	ErrBad = errors.New("heartbeat")
)

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// Heartbeat is one thing that must report in time. Times are Unix milliseconds.
type Heartbeat struct {
	Name    string `json:"name"`
	Board   string `json:"board,omitempty"` // that it runs on, where it is one of the registry's
	Message string `json:"message,omitempty"`
	By      string `json:"by"` // user or token of the last ping
	// WithinSeconds is how long it may stay away; Deadline is when it is overdue: the time for which the collector was
	// away is added.
	WithinSeconds int64 `json:"withinSeconds"`
	CreatedAt     int64 `json:"createdAt"`
	LastAt        int64 `json:"lastAt"`
	Deadline      int64 `json:"deadline"`
	Overdue       bool  `json:"overdue"`

	within  time.Duration
	excused int64 // milliseconds for which the collector was away since the last ping
	removed int64 // when it was removed, 0 while it is there
}

// Ping is one sign of life.
type Ping struct {
	Within  time.Duration // 0 keeps the earlier one, or DefaultWithin
	Board   string        // "" keeps the earlier one
	Message string
	By      string
}

// Store keeps all heartbeats. It is safe for concurrent use.
type Store struct {
	db *sql.DB
	// known reports whether a board is registered.
	known func(board string) bool
	// base is when the store was opened. Time is counted from it by the monotonic clock: a clock that is set makes
	// nothing overdue.
	base time.Time

	mu  sync.Mutex
	all map[string]*Heartbeat // replaced, never changed in place
}

// Open reads the store and adds the time without a collector to the deadlines. The caller calls Run.
func Open(ctx context.Context, db *sql.DB, known func(board string) bool) (*Store, error) {
	b := &Store{db: db, known: known, all: map[string]*Heartbeat{}, base: time.Now()}
	if err := b.load(ctx); err != nil {
		return nil, err
	}
	return b, b.excuse(ctx, b.now())
}

func (b *Store) now() int64 { return b.base.UnixMilli() + time.Since(b.base).Milliseconds() }

// Ping notes a sign of life; the first one makes the heartbeat. It is on disk when Ping returns.
func (b *Store) Ping(ctx context.Context, name string, ping Ping) (Heartbeat, error) {
	if err := b.check(name, ping); err != nil {
		return Heartbeat{}, fmt.Errorf("%w: %w", ErrBad, err)
	}
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	h := Heartbeat{Name: name, within: DefaultWithin, CreatedAt: now}
	if was := b.all[name]; was != nil && was.removed == 0 {
		h = *was
	} else if was == nil && len(b.all) >= MaxNames {
		return Heartbeat{}, fmt.Errorf("%w: there are %d already: remove some first", ErrBad, MaxNames)
	}
	h.LastAt, h.excused, h.Message, h.By = now, 0, ping.Message, ping.By
	if ping.Within != 0 {
		h.within = ping.Within
	}
	if ping.Board != "" {
		h.Board = ping.Board
	}
	if err := b.save(ctx, &h); err != nil {
		return Heartbeat{}, err
	}
	b.all[name] = &h
	return h.at(now), nil
}

func (b *Store) check(name string, ping Ping) error {
	switch {
	case !validName.MatchString(name):
		return fmt.Errorf("name %q: use a-z, 0-9 and -, 63 characters at most", name)
	case ping.Within != 0 && (ping.Within < minWithin || ping.Within > maxWithin):
		return fmt.Errorf("within: %s is not between %s and 62d", ping.Within, minWithin)
	case len(ping.Message) > MaxMessage:
		return fmt.Errorf("message is longer than %d bytes", MaxMessage)
	case ping.Board != "" && !b.known(ping.Board):
		return fmt.Errorf("board: no board %q is registered", ping.Board)
	}
	return nil
}

// Remove ends a heartbeat: nobody waits for it any more, and its alert ends.
func (b *Store) Remove(ctx context.Context, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.all[name]
	if was == nil || was.removed != 0 {
		return fmt.Errorf("heartbeat %q: %w", name, ErrUnknown)
	}
	h := *was
	h.removed = b.now()
	if err := b.save(ctx, &h); err != nil {
		return err
	}
	b.all[name] = &h
	return nil
}

// List returns all heartbeats, by name.
func (b *Store) List() []Heartbeat { return b.list(false) }

func (b *Store) list(removed bool) []Heartbeat {
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	out := []Heartbeat{}
	for _, name := range slices.Sorted(maps.Keys(b.all)) {
		if h := b.all[name]; removed || h.removed == 0 {
			out = append(out, h.at(now))
		}
	}
	return out
}

// at fills in the fields that depend on the time.
func (h Heartbeat) at(now int64) Heartbeat {
	h.WithinSeconds = int64(h.within.Seconds())
	h.Deadline = h.LastAt + h.within.Milliseconds() + h.excused
	h.Overdue = h.removed == 0 && now > h.Deadline
	return h
}
