package registry

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"bramble/pisensor/report"
)

// Enrol binds the request's key to a board and returns the board's name. Its
// Token must hold the token's credentials, <id>.<secret>. Asking again with the
// same key gives the same answer, as long as the key is in force. Every error
// is meant for the person at the board and shows no secret.
func (r *Registry) Enrol(ctx context.Context, q report.EnrolRequest) (board string, err error) {
	r.write.Lock()
	defer r.write.Unlock()
	id, ok := r.TokenID(q.Token)
	if !ok {
		return "", fmt.Errorf("enrol: token %w: copy it again, or make a new one with `collector board token`", ErrDenied)
	}
	if !nkeys.IsValidPublicUserKey(q.Key) {
		return "", fmt.Errorf("enrol: key %.60q is no public user key: update pisensor", q.Key)
	}
	t := r.token(id)
	if name, used := t.uses[q.Key]; used {
		return r.again(name, q.Key)
	}
	if !t.expires.After(time.Now()) {
		return "", fmt.Errorf("enrol: token %s expired or was withdrawn: make a new one with `%s`", id, t.command())
	}
	if len(t.uses) >= t.count {
		return "", t.usedUp()
	}
	if b, taken := r.BoardOfKey(q.Key); taken && b.Name != t.board {
		return "", fmt.Errorf("enrol: this key belongs to board %s already: remove the key from the state directory, or run `collector board revoke %s` first", b.Name, b.Name)
	}
	b, steps, err := r.enrolled(t, q)
	if err != nil {
		return "", err
	}
	steps = append(steps, exec(`INSERT INTO enrol_use VALUES (?, ?, ?, ?)`, id, q.Key, b.Name, b.KeyChanged.UnixMilli()))
	return b.Name, r.change(ctx, event{"enrol board", b.Name, "token " + id + " key " + q.Key}, func() {
		r.put(b)
		r.tokens[id].uses[q.Key] = b.Name
	}, steps...)
}

// token returns a copy; its maps change only under r.write.
func (r *Registry) token(id string) enrolToken {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return *r.tokens[id]
}

// again answers a key that this token has enrolled before.
func (r *Registry) again(name, key string) (string, error) {
	b, err := r.active(name)
	if err != nil {
		return "", fmt.Errorf("enrol: %w", err)
	}
	if b.Key != key {
		return "", fmt.Errorf("enrol: board %s no longer takes this key: make a new token with `collector board token %s`", name, name)
	}
	return name, nil
}

func (t *enrolToken) usedUp() error {
	if t.board != "" {
		return fmt.Errorf("enrol: token %s is used already, by another key: make a new one with `%s`", t.id, t.command())
	}
	return fmt.Errorf("enrol: token %s has enrolled all of its %d boards: make a new one with `%s`", t.id, t.count, t.command())
}

// command is how the operator makes another token like this one.
func (t *enrolToken) command() string {
	if t.board != "" {
		return "collector board token " + t.board
	}
	return fmt.Sprintf("collector board token --rack '%s' --count N", t.labels["rack"])
}

// enrolled returns the board with the request's key, and how to store it.
func (r *Registry) enrolled(t enrolToken, q report.EnrolRequest) (*Board, []statement, error) {
	now := time.Now().Truncate(time.Millisecond)
	if t.board == "" {
		b, err := r.newBoard(r.free(q.Name, t.labels["rack"]), t.labels)
		if err != nil {
			return nil, nil, err
		}
		b.Key, b.Enrolled, b.KeyChanged = q.Key, now, now
		return b, insertBoard(b), nil
	}
	old, err := r.active(t.board)
	if err != nil {
		return nil, nil, fmt.Errorf("enrol: %w", err)
	}
	b := *old
	b.Key, b.KeyChanged = q.Key, now
	if b.Enrolled.IsZero() {
		b.Enrolled = now
	}
	return &b, []statement{exec(`UPDATE board SET key = ?, enrolled = ?, key_changed = ? WHERE name = ?`,
		b.Key, b.Enrolled.UnixMilli(), b.KeyChanged.UnixMilli(), b.Name)}, nil
}

// free returns the wanted name where it is valid and free, else the first free
// one of <rack>-01, <rack>-02, …
func (r *Registry) free(wanted, rack string) string {
	if report.ValidateBoard(wanted) == nil {
		if _, taken := r.Board(wanted); !taken {
			return wanted
		}
	}
	stem := stem(rack)
	for n := 1; ; n++ {
		name := fmt.Sprintf("%s-%02d", stem, n)
		if _, taken := r.Board(name); !taken {
			return name
		}
	}
}

// stem makes the rack's name fit the start of a board's name.
func stem(rack string) string {
	fit := func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}
	s := strings.Trim(strings.Map(fit, strings.ToLower(rack)), "-")
	if s == "" {
		return "board"
	}
	return s[:min(len(s), 48)]
}
