package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"bramble/pisensor/report"
)

// A token can change its board's key keyChanges times within keyChangeTime. A
// board that is set up anew does so once; two machines with one token, or a
// board that forgets its key at each boot, do so without end.
const (
	keyChanges    = 6
	keyChangeTime = time.Hour
)

// Enrolled is the outcome of an enrolment.
type Enrolled struct {
	Board    string // its name
	Replaced string // the key that was the board's before; empty where there was none
	Repeated bool   // the key was the board's already
}

// Enrol binds the request's key to a board. Its Token must hold the token's
// credentials, <id>.<secret>. Asking again with the same key gives the same
// answer, as long as the key is in force.
//
// A board's own token stays good for its board: its holder can put another key in place of the one
// in force, as often as keyChanges allows, until the operator makes a new token, revokes or retires
// the board. That is how a board comes back after its OS was installed anew, and it is all that the
// holder can do. A board that renews its key has the old one void for good. A rack's token makes new
// boards only, under names of its own: it proves nothing about an existing board, and tells nothing
// about one.
//
// Every error is meant for the person at the board and shows no secret.
func (r *Registry) Enrol(ctx context.Context, q report.EnrolRequest) (Enrolled, error) {
	r.write.Lock()
	defer r.write.Unlock()
	id, ok := r.TokenID(q.Token)
	if !ok {
		return Enrolled{}, fmt.Errorf("enrol: token %w: copy it again, or make a new one with `collector board token`", ErrDenied)
	}
	if !nkeys.IsValidPublicUserKey(q.Key) {
		return Enrolled{}, fmt.Errorf("enrol: key %.60q is no public user key: update pisensor", q.Key)
	}
	t, now := r.token(id), time.Now().Truncate(time.Millisecond)
	if t.board != "" {
		return r.enrolKnown(ctx, t, q, r.voids.later(t.board, now))
	}
	return r.enrolNew(ctx, t, q, now)
}

// token returns a copy; its maps and slices change only under r.write.
func (r *Registry) token(id string) enrolToken {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return *r.tokens[id]
}

// enrolKnown gives the token's board a key.
func (r *Registry) enrolKnown(ctx context.Context, t enrolToken, q report.EnrolRequest, now time.Time) (Enrolled, error) {
	key := q.Key
	old, err := r.active(t.board)
	if err != nil {
		return Enrolled{}, fmt.Errorf("enrol: %w", err)
	}
	done := Enrolled{Board: old.Name, Replaced: old.Key, Repeated: old.Key == key}
	if done.Repeated {
		done.Replaced = ""
		if _, used := t.uses[key]; used {
			return done, nil
		}
	}
	if err := r.acceptable(t, key, now); err != nil {
		return Enrolled{}, err
	}
	recent := t.changesSince(now.Add(-keyChangeTime))
	if len(recent) >= keyChanges {
		return Enrolled{}, r.refuseChange(ctx, t, key, recent, now)
	}
	action := event{"enrol board", old.Name, "token " + t.id + " key " + key}
	if done.Replaced != "" {
		action = event{replaceKey, old.Name, "token " + t.id + " key " + key + " in place of " + old.Key}
		recent = append(recent, now)
	}
	if q.Renew && done.Replaced != "" {
		if err := r.voids.append(void{now.UnixMilli(), old.Name, old.Key, key}); err != nil {
			return Enrolled{}, fmt.Errorf("enrol: renew the key of board %s: %w", old.Name, err)
		}
	}
	b := *old
	if !done.Repeated {
		b.Key, b.KeyChanged = key, now
	}
	if b.Enrolled.IsZero() {
		b.Enrolled = now
	}
	return done, r.change(ctx, action, func() {
		r.put(&b)
		kept := r.tokens[t.id]
		kept.uses, kept.expires, kept.changes = map[string]string{key: b.Name}, time.Time{}, recent
	},
		exec(`UPDATE board SET key = ?, enrolled = ?, key_changed = ? WHERE name = ?`,
			b.Key, b.Enrolled.UnixMilli(), stamp(b.KeyChanged), b.Name),
		exec(`UPDATE enrol_token SET expires = 0 WHERE id = ?`, t.id),
		exec(`DELETE FROM enrol_use WHERE token = ?`, t.id),
		exec(`INSERT INTO enrol_use VALUES (?, ?, ?, ?)`, t.id, key, b.Name, now.UnixMilli()))
}

// acceptable refuses a token out of force and a key that another board has.
func (r *Registry) acceptable(t enrolToken, key string, now time.Time) error {
	if !t.inForce(now) {
		text := fmt.Sprintf("enrol: token %s expired or was withdrawn: make a new one with `%s`", t.id, t.command())
		if t.board == "" {
			text += "; a board that is known already takes `collector board token NAME`"
		}
		return errors.New(text)
	}
	if r.voids.keys[key] {
		return errors.New("enrol: this key was revoked or renewed and stays void: make another one with `pisensor enrol --new-key`; with an older pisensor, remove board.nk from the state directory and enrol again")
	}
	b, taken := r.BoardOfKey(key)
	switch {
	case !taken || b.Name == t.board:
	case t.board == "":
		return errors.New("enrol: this key belongs to another board already: remove the key from the state directory, and ask again")
	default:
		return fmt.Errorf("enrol: this key belongs to board %s already: remove the key from the state directory, or run `collector board revoke %s` first", b.Name, b.Name)
	}
	return nil
}

// refuseChange says that the key changes too often, and records it once in
// keyChangeTime.
func (r *Registry) refuseChange(ctx context.Context, t enrolToken, key string, recent []time.Time, now time.Time) error {
	err := fmt.Errorf("enrol: token %s has changed the key of board %s %d times within an hour: two machines use this token, or the board loses its state directory at each boot. "+
		"The key in force stays; give each machine its own token (`collector board token NAME`) and keep the state directory. This token changes the key again after %s",
		t.id, t.board, len(recent), recent[0].Add(keyChangeTime).UTC().Format("15:04 UTC"))
	if now.Sub(t.refused) < keyChangeTime {
		return err
	}
	return errors.Join(err, r.change(ctx, event{"refuse key", t.board, fmt.Sprintf("token %s key %s after %d changes within an hour", t.id, key, len(recent))},
		func() { r.tokens[t.id].refused = now }))
}

// enrolNew makes a new board under a rack's token.
func (r *Registry) enrolNew(ctx context.Context, t enrolToken, q report.EnrolRequest, now time.Time) (Enrolled, error) {
	if name, used := t.uses[q.Key]; used {
		return r.again(name, q.Key)
	}
	if err := r.acceptable(t, q.Key, now); err != nil {
		return Enrolled{}, err
	}
	if len(t.uses) >= t.count {
		return Enrolled{}, fmt.Errorf("enrol: token %s has enrolled all of its %d boards: make a new one with `%s`; a board that is known already takes `collector board token NAME`", t.id, t.count, t.command())
	}
	if q.Renew {
		return Enrolled{}, errors.New("enrol: a rack's token renews no key, for it proves nothing about a board: `collector board token NAME` makes one that does")
	}
	name := r.free(t, q.Name)
	if name == "" {
		return Enrolled{}, fmt.Errorf("enrol: token %s has no name left, since boards were added under its names by hand: make a new one with `%s`", t.id, t.command())
	}
	b, err := r.newBoard(name, t.labels)
	if err != nil {
		return Enrolled{}, err
	}
	b.Key, b.Enrolled, b.KeyChanged = q.Key, now, now
	steps := append(insertBoard(b), exec(`INSERT INTO enrol_use VALUES (?, ?, ?, ?)`, t.id, q.Key, b.Name, now.UnixMilli()))
	return Enrolled{Board: b.Name}, r.change(ctx, event{"enrol board", b.Name, "token " + t.id + " key " + q.Key}, func() {
		r.put(b)
		r.tokens[t.id].uses[q.Key] = b.Name
	}, steps...)
}

// again answers a key that a rack's token has enrolled before.
func (r *Registry) again(name, key string) (Enrolled, error) {
	b, err := r.active(name)
	if err != nil {
		return Enrolled{}, fmt.Errorf("enrol: %w", err)
	}
	if b.Key != key {
		return Enrolled{}, fmt.Errorf("enrol: board %s no longer takes this key: make a new token with `collector board token %s`", name, name)
	}
	return Enrolled{Board: name, Repeated: true}, nil
}

// command is how the operator makes another token like this one.
func (t *enrolToken) command() string {
	if t.board != "" {
		return "collector board token " + t.board
	}
	if t.text != "" {
		return fmt.Sprintf("collector board token --rack '%s' --names NAMES", t.labels["rack"])
	}
	return fmt.Sprintf("collector board token --rack '%s' --count N", t.labels["rack"])
}

// free returns the name that a rack's token gives to a new board: the wanted one where it is the
// token's own and free, else the next free one. A wanted name that is not the token's own is not
// looked up, so that the answer and its time say nothing about a board that has it. It is empty
// where boards have all names of a token made for names; a rack's numbers go on behind its count.
func (r *Registry) free(t enrolToken, wanted string) string {
	if t.names.has(wanted) && r.isFree(t, wanted) {
		return wanted
	}
	for n := t.next; ; n++ {
		name := t.names.at(n)
		if name == "" && t.text == "" {
			name = numbers(t.labels["rack"], n+1).at(n)
		}
		if name == "" || r.isFree(t, name) {
			r.mu.Lock()
			r.tokens[t.id].next = n // a board keeps its name for ever
			r.mu.Unlock()
			return name
		}
	}
}

// isFree reports whether no board has a name, and no other token was made for it.
func (r *Registry) isFree(t enrolToken, name string) bool {
	_, taken := r.Board(name)
	return !taken && r.registered(name, t.id) == nil
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
