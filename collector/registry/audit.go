package registry

import (
	"context"
	"database/sql"
	"time"

	"bramble/storage/statedb"
)

type actorKey struct{}

// WithActor names who makes the changes under this context, such as
// "user kim" or "token 3f2a", for the audit table.
func WithActor(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, actorKey{}, name)
}

// actor is the name given with WithActor, else "collector".
func actor(ctx context.Context) string {
	if name, ok := ctx.Value(actorKey{}).(string); ok && name != "" {
		return name
	}
	return "collector"
}

// Event is one line of the audit table.
type Event struct {
	At     time.Time
	Actor  string // user, token or program
	Action string // such as "relabel board"
	Object string // the board, user or token that changed
	Detail string
}

// Events returns the newest limit lines of the audit table, newest first. It
// reads the disk.
func (r *Registry) Events(ctx context.Context, limit int) ([]Event, error) {
	return statedb.All(ctx, r.db, func(row *sql.Rows) (e Event, err error) {
		var at int64
		err = row.Scan(&at, &e.Actor, &e.Action, &e.Object, &e.Detail)
		e.At = moment(at)
		return e, err
	}, `SELECT at, actor, action, object, detail FROM audit ORDER BY id DESC LIMIT ?`, limit)
}

// Note writes a line of the audit table for an action that changes nothing in the registry.
func (r *Registry) Note(ctx context.Context, action, object, detail string) error {
	r.write.Lock()
	defer r.write.Unlock()
	return r.change(ctx, event{action, object, detail}, func() {})
}
