package registry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"bramble/storage/durable"
)

// VoidFile is the list of keys that are void for good, beside the database: one line of JSON for each
// revocation, retirement and renewal. It only grows. A restore brings an older database back, in which
// such keys are in force; the list stays, and [Open] applies it.
const VoidFile = "void-keys.jsonl"

// void is a line of the list.
type void struct {
	At    int64  `json:"at"` // Unix ms; the keys and tokens that the board had got by then are void
	Board string `json:"board"`
	Key   string `json:"key,omitempty"`  // the key in force then
	Next  string `json:"next,omitempty"` // the key that the board itself put in its place; its tokens stay then
}

// voids are the list in memory. Registry.write guards it.
type voids struct {
	path string // empty: a database without a file has no list
	size int64  // of its whole lines, in bytes
	all  []void
	keys map[string]bool
	last map[string]int64 // by board: At of its last line
}

func (v *voids) add(line void) {
	v.all = append(v.all, line)
	if line.Key != "" {
		v.keys[line.Key] = true
	}
	v.last[line.Board] = max(v.last[line.Board], line.At)
}

// later returns now, or the first instant at which the board can get a key or a token that the list
// does not make void: the clock may have been set back.
func (v *voids) later(board string, now time.Time) time.Time {
	if last, ok := v.last[board]; ok && now.UnixMilli() <= last {
		return time.UnixMilli(last + 1)
	}
	return now
}

// append puts a line on the disk, over one that was cut short.
func (v *voids) append(line void) (err error) {
	if v.path == "" {
		v.add(line)
		return nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write the list of void keys: %w", err)
		}
	}()
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(v.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	n, err := f.WriteAt(append(text, '\n'), v.size)
	if err := errors.Join(err, f.Truncate(v.size+int64(n)), f.Sync(), f.Close(), durable.SyncDir(filepath.Dir(v.path))); err != nil {
		return err
	}
	v.size += int64(n)
	v.add(line)
	return nil
}

// whole returns the list without a last line that was cut short.
func whole(text []byte) []byte { return text[:bytes.LastIndexByte(text, '\n')+1] }

// voids reads the list beside the database.
func (l loader) voids(ctx context.Context) error {
	r := l.into
	r.voids = voids{keys: map[string]bool{}, last: map[string]int64{}}
	var file string
	if err := r.db.QueryRowContext(ctx, `SELECT file FROM pragma_database_list WHERE name = 'main'`).Scan(&file); err != nil {
		return err
	}
	if file == "" {
		return nil
	}
	r.voids.path = filepath.Join(filepath.Dir(file), VoidFile)
	text, err := os.ReadFile(r.voids.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.voids.size = int64(len(whole(text)))
	for i, line := range bytes.Split(whole(text), []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		var v void
		if err := json.Unmarshal(line, &v); err != nil {
			return fmt.Errorf("%s, line %d: %w: the file is damaged; remove the line, and revoke again the boards whose keys it made void", r.voids.path, i+1, err)
		}
		r.voids.add(v)
	}
	return nil
}

// enforceVoids applies the list to a database that a restore has brought back, or whose change a crash
// has kept from the disk. It changes nothing otherwise.
func (r *Registry) enforceVoids(ctx context.Context) error {
	r.write.Lock()
	defer r.write.Unlock()
	for _, v := range r.voids.all {
		old := r.boards[v.Board]
		if old == nil {
			continue
		}
		b, tokens := *old, v.Next == "" && r.hasTokens(v.Board, v.At)
		if b.Key != "" && b.Key != v.Next && (b.Key == v.Key || stamp(b.KeyChanged) <= v.At) {
			b.Key, b.KeyChanged = v.Next, moment(v.At)
		}
		if b.Key == old.Key && !tokens {
			continue
		}
		steps := []statement{exec(`UPDATE board SET key = ?, key_changed = ? WHERE name = ?`, nullable(b.Key), stamp(b.KeyChanged), b.Name)}
		if tokens {
			steps = append(steps, expireTokens(b.Name))
		}
		err := r.change(ctx, event{"void key", b.Name, "by " + VoidFile + ": " + cmp.Or(old.Key, "its tokens")}, func() {
			r.put(&b)
			if tokens {
				r.dropTokens(b.Name)
			}
		}, steps...)
		if err != nil {
			return err
		}
	}
	return nil
}

// hasTokens reports whether a token in force was made for a board by an instant.
func (r *Registry) hasTokens(board string, at int64) bool {
	now := time.Now()
	for _, t := range r.tokens {
		if t.board == board && t.created <= at && t.inForce(now) {
			return true
		}
	}
	return false
}

// MergeVoids returns one list of void keys with the lines of several, each once, in their order in
// time. Lines that are none are left out: the lists are of backups, one of which may be damaged.
func MergeVoids(lists ...[]byte) []byte {
	var all []void
	for _, list := range lists {
		for line := range bytes.SplitSeq(whole(list), []byte("\n")) {
			var v void
			if json.Unmarshal(line, &v) == nil && v.Board != "" && !slices.Contains(all, v) {
				all = append(all, v)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b void) int { return cmp.Compare(a.At, b.At) })
	var text []byte
	for _, v := range all {
		line, err := json.Marshal(v)
		if err == nil { // it came from JSON
			text = append(append(text, line...), '\n')
		}
	}
	return text
}
