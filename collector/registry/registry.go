package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"bramble/storage/statedb"
)

// Errors that callers branch on.
var (
	// ErrNotFound is wrapped where a named board, user or token does not exist.
	ErrNotFound = errors.New("not found")
	// ErrDenied is wrapped for a wrong password and a credential not in force.
	ErrDenied = errors.New("access denied")
)

// Registry answers from memory and changes disk first, memory after. It is safe
// for concurrent use. The database stays the caller's to close.
type Registry struct {
	db         *sql.DB
	generation atomic.Uint64
	changes    atomic.Int64

	write sync.Mutex // held for a whole change: changes happen one after the other
	voids voids      // keys that are void for good

	mu       sync.RWMutex
	boards   map[string]*Board
	keys     map[string]string // public nkey → board
	tokens   map[string]*enrolToken
	api      map[string]*APIToken
	users    map[string]*User
	sessions map[digest]session

	hashing sync.Mutex // one password hash at a time: each takes 19 MiB
}

// Open loads everything into memory: about 1 kB a board. It applies the list of void keys, [VoidFile],
// beside the database. It makes its tables in
// an empty database; those of an older build it leaves to [statedb.Migrate].
func Open(ctx context.Context, db *sql.DB) (*Registry, error) {
	if err := statedb.Ready(ctx, db); err != nil {
		return nil, err
	}
	r := &Registry{
		db:     db,
		boards: map[string]*Board{}, keys: map[string]string{}, tokens: map[string]*enrolToken{},
		api: map[string]*APIToken{}, users: map[string]*User{}, sessions: map[digest]session{},
	}
	l := loader{r}
	for _, load := range []func(context.Context) error{l.boards, l.labels, l.tokens, l.uses, l.changes, l.apiTokens, l.users, l.sessions, l.number, l.voids, r.enforceVoids} {
		if err := load(ctx); err != nil {
			return nil, fmt.Errorf("load registry: %w", err)
		}
	}
	return r, nil
}

// Generation changes with every change of a board. A caller that keeps a value derived from a board
// reads the generation first, the board after, and compares generations for equality only.
func (r *Registry) Generation() uint64 { return r.generation.Load() }

// Changes is the number of the newest change that is on disk; it only grows. A database with a lower number than one that was seen before
// has lost some.
func (r *Registry) Changes() int64 { return r.changes.Load() }

func (l loader) number(ctx context.Context) error {
	r := l.into
	return l.each(ctx, `SELECT coalesce(max(id), 0) FROM audit`, func(row *sql.Rows) error {
		var n int64
		err := row.Scan(&n)
		r.changes.Store(n)
		return err
	})
}

// loader reads the tables into a registry that nobody uses yet.
type loader struct{ into *Registry }

// each runs scan for every row of a query.
func (l loader) each(ctx context.Context, query string, scan func(*sql.Rows) error) error {
	return statedb.Each(ctx, l.into.db, scan, query)
}

// statement is one step of a change.
type statement struct {
	query string
	args  []any
}

func exec(query string, args ...any) statement { return statement{query, args} }

// event is a change's line in the audit table.
type event struct{ action, object, detail string }

// change commits the statements together with their audit line, then calls
// apply with r.mu held. The caller holds r.write and has checked everything.
func (r *Registry) change(ctx context.Context, e event, apply func(), steps ...statement) error {
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s %s: %w", e.action, e.object, err)
	}
	defer tx.Rollback()
	steps = append(steps, exec(`INSERT INTO audit (at, actor, action, object, detail) VALUES (?, ?, ?, ?, ?)`,
		time.Now().UnixMilli(), actor(ctx), e.action, e.object, e.detail))
	var last sql.Result // of the audit line
	for _, s := range steps {
		if last, err = tx.ExecContext(ctx, s.query, s.args...); err != nil {
			return fmt.Errorf("%s %s: %w", e.action, e.object, err)
		}
	}
	number, err := last.LastInsertId()
	if err != nil {
		return fmt.Errorf("%s %s: %w", e.action, e.object, err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%s %s: %w", e.action, e.object, err)
	}
	r.changes.Store(number)
	r.mu.Lock()
	defer r.mu.Unlock()
	apply()
	return nil
}

// moment reads a stored time; 0 is the zero time.
func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
