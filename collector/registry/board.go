package registry

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"bramble/pisensor/report"
)

// Version is the set of labels in force from an instant on.
type Version struct {
	From   int64   // Unix ms, inclusive
	Labels []Label // sorted by name
}

// Board is an immutable snapshot of one board. Nothing in it may be changed.
type Board struct {
	Name       string
	Versions   []Version // ascending by From, at least one
	Key        string    // public nkey, empty before enrolment and after a revocation
	Created    time.Time
	Enrolled   time.Time // zero before the first enrolment
	KeyChanged time.Time // last time that a key was accepted or forgotten, zero before
	Retired    bool
}

// At returns the labels in force at an instant (Unix ms): the last version that
// does not begin later. Before the first version, that one counts. The result
// is shared and must not be changed.
func (b *Board) At(at int64) []Label { return b.Versions[b.index(at)].Labels }

func (b *Board) index(at int64) int {
	i := len(b.Versions) - 1
	for i > 0 && b.Versions[i].From > at {
		i--
	}
	return i
}

// Board returns a board by name.
func (r *Registry) Board(name string) (*Board, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	b, ok := r.boards[name]
	return b, ok
}

// BoardOfKey returns the board that a public nkey belongs to.
func (r *Registry) BoardOfKey(key string) (*Board, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	b, ok := r.boards[r.keys[key]]
	return b, ok
}

// Boards returns all boards, sorted by name, retired ones included.
func (r *Registry) Boards() []*Board {
	r.mu.RLock()
	boards := make([]*Board, 0, len(r.boards))
	for _, b := range r.boards {
		boards = append(boards, b)
	}
	r.mu.RUnlock()
	slices.SortFunc(boards, func(a, b *Board) int { return strings.Compare(a.Name, b.Name) })
	return boards
}

// AddBoard registers a board without a key. Labels with empty values are left out.
func (r *Registry) AddBoard(ctx context.Context, name string, labels map[string]string) error {
	r.write.Lock()
	defer r.write.Unlock()
	b, err := r.newBoard(name, labels)
	if err != nil {
		return err
	}
	return r.change(ctx, event{"add board", name, formatLabels(labels)}, func() { r.put(b) }, insertBoard(b)...)
}

// newBoard checks a new board and returns it.
func (r *Registry) newBoard(name string, labels map[string]string) (*Board, error) {
	if err := report.ValidateBoard(name); err != nil {
		return nil, err
	}
	if err := ValidateLabels(labels); err != nil {
		return nil, err
	}
	if old, ok := r.Board(name); ok && old.Retired {
		return nil, fmt.Errorf("board %s was retired and its history keeps the name: choose another name", name)
	} else if ok {
		return nil, fmt.Errorf("board %s exists already: `collector board token %s` makes a new token for it, `collector board label %s …` changes its labels", name, name, name)
	}
	b := &Board{Name: name, Created: time.Now().Truncate(time.Millisecond)}
	b.Versions = []Version{{From: b.Created.UnixMilli(), Labels: sorted(labels)}}
	return b, checkCount(b.Versions)
}

func checkCount(versions []Version) error {
	for _, v := range versions {
		if len(v.Labels) > MaxLabels {
			return fmt.Errorf("%d labels on one board: use at most %d", len(v.Labels), MaxLabels)
		}
	}
	return nil
}

// insertBoard stores a new board, enrolled or not, with its labels.
func insertBoard(b *Board) []statement {
	return []statement{
		exec(`INSERT INTO board (name, key, created, enrolled, key_changed) VALUES (?, ?, ?, ?, ?)`,
			b.Name, nullable(b.Key), b.Created.UnixMilli(), stamp(b.Enrolled), stamp(b.KeyChanged)),
		exec(`INSERT INTO board_labels VALUES (?, ?, ?)`, b.Name, b.Versions[0].From, encodeLabels(b.Versions[0].Labels)),
	}
}

// put replaces a board in memory. The caller holds r.mu.
func (r *Registry) put(b *Board) {
	if old := r.boards[b.Name]; old != nil {
		delete(r.keys, old.Key)
	}
	if b.Key != "" {
		r.keys[b.Key] = b.Name
	}
	r.boards[b.Name] = b
	r.generation.Add(1)
}

// active returns a board that is not retired.
func (r *Registry) active(name string) (*Board, error) {
	b, err := r.known(name)
	if err == nil && b.Retired {
		return nil, fmt.Errorf("board %s is retired: add its successor under another name", name)
	}
	return b, err
}

func (r *Registry) known(name string) (*Board, error) {
	if b, ok := r.Board(name); ok {
		return b, nil
	}
	return nil, fmt.Errorf("board %s: %w: `collector board list` shows the names", name, ErrNotFound)
}

// Relabel merges labels into those in force from an instant on (Unix ms); an
// empty value deletes. Versions that begin later get the same changes, so that
// the last word on each label holds. The caller chooses an instant after every
// reading that it has already labelled.
func (r *Registry) Relabel(ctx context.Context, name string, labels map[string]string, from int64) error {
	r.write.Lock()
	defer r.write.Unlock()
	old, err := r.active(name)
	if err != nil {
		return err
	}
	if err := ValidateLabels(labels); err != nil {
		return err
	}
	b := *old
	b.Versions = relabel(old, labels, from)
	if err := checkCount(b.Versions); err != nil {
		return err
	}
	steps := []statement{exec(`DELETE FROM board_labels WHERE board = ? AND valid_from >= ?`, name, from)}
	for _, v := range b.Versions {
		if v.From >= from {
			steps = append(steps, exec(`INSERT INTO board_labels VALUES (?, ?, ?)`, name, v.From, encodeLabels(v.Labels)))
		}
	}
	return r.change(ctx, event{"relabel board", name, fmt.Sprintf("%s from %d", formatLabels(labels), from)}, func() { r.put(&b) }, steps...)
}

// relabel returns the board's versions with the changes from an instant on. An
// instant before the first version makes a new first one, which then also
// holds for all time before.
func relabel(b *Board, changes map[string]string, from int64) []Version {
	versions := make([]Version, 0, len(b.Versions)+1)
	at := Version{From: from, Labels: merge(b.At(from), changes)}
	for _, v := range b.Versions {
		if v.From < from {
			versions = append(versions, v)
		}
	}
	versions = append(versions, at)
	for _, v := range b.Versions {
		if v.From > from {
			versions = append(versions, Version{From: v.From, Labels: merge(v.Labels, changes)})
		}
	}
	return versions
}

// Revoke forgets the board's key for good. The key's holder is a stranger from now on: no token that
// the board was enrolled with lets it back in, none takes this key again, and no restored backup does.
// The broker must cut a live connection.
func (r *Registry) Revoke(ctx context.Context, name string) error {
	r.write.Lock()
	defer r.write.Unlock()
	old, err := r.known(name)
	if err != nil {
		return err
	}
	b := *old
	b.Key, b.KeyChanged = "", r.voids.later(name, time.Now().Truncate(time.Millisecond))
	if err := r.voids.append(void{At: b.KeyChanged.UnixMilli(), Board: name, Key: old.Key}); err != nil {
		return fmt.Errorf("revoke board %s: %w", name, err)
	}
	return r.change(ctx, event{"revoke board", name, old.Key}, func() { r.put(&b); r.dropTokens(name) },
		exec(`UPDATE board SET key = NULL, key_changed = ? WHERE name = ?`, b.KeyChanged.UnixMilli(), name), expireTokens(name))
}

// Retire forgets the board's key for good. Its name and labels stay, for its
// history.
func (r *Registry) Retire(ctx context.Context, name string) error {
	r.write.Lock()
	defer r.write.Unlock()
	old, err := r.active(name)
	if err != nil {
		return err
	}
	b := *old
	b.Key, b.KeyChanged, b.Retired = "", r.voids.later(name, time.Now().Truncate(time.Millisecond)), true
	if err := r.voids.append(void{At: b.KeyChanged.UnixMilli(), Board: name, Key: old.Key}); err != nil {
		return fmt.Errorf("retire board %s: %w", name, err)
	}
	return r.change(ctx, event{"retire board", name, old.Key}, func() { r.put(&b); r.dropTokens(name) },
		exec(`UPDATE board SET key = NULL, key_changed = ?, retired = 1 WHERE name = ?`, b.KeyChanged.UnixMilli(), name), expireTokens(name))
}

func (l loader) boards(ctx context.Context) error {
	r := l.into
	return l.each(ctx, `SELECT name, coalesce(key, ''), created, enrolled, key_changed, retired FROM board`, func(rows *sql.Rows) error {
		var b Board
		var created, enrolled, changed int64
		if err := rows.Scan(&b.Name, &b.Key, &created, &enrolled, &changed, &b.Retired); err != nil {
			return err
		}
		b.Created, b.Enrolled, b.KeyChanged = moment(created), moment(enrolled), moment(changed)
		r.put(&b)
		return nil
	})
}

func (l loader) labels(ctx context.Context) error {
	r := l.into
	err := l.each(ctx, `SELECT board, valid_from, labels FROM board_labels ORDER BY board, valid_from`, func(rows *sql.Rows) error {
		var name, text string
		var v Version
		if err := rows.Scan(&name, &v.From, &text); err != nil {
			return err
		}
		labels, err := decodeLabels(text)
		if err != nil {
			return fmt.Errorf("board %s: %w", name, err)
		}
		v.Labels = labels
		r.boards[name].Versions = append(r.boards[name].Versions, v)
		return nil
	})
	for _, b := range r.boards {
		if len(b.Versions) == 0 {
			b.Versions = []Version{{From: b.Created.UnixMilli()}}
		}
	}
	return err
}

// stamp is the stored form of a time; the zero time is 0.
func stamp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}
