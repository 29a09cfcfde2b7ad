package registry

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCopyHasEverythingButOpenLogins(t *testing.T) {
	r, db := opened(t, t.TempDir())
	for _, err := range []error{
		r.AddBoard(t.Context(), "pi-1", map[string]string{"rack": "r1"}), r.AddBoard(t.Context(), "pi-2", nil),
		r.AddUser(t.Context(), "mira", "long enough", "admin"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Login(t.Context(), "mira", "long enough"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy #1?.db")
	if _, err := CopyDB(t.Context(), db, path); err != nil {
		t.Fatal(err)
	}
	got, err := CheckDB(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Contents{Boards: 2, Users: 1}, got); d != "" {
		t.Errorf("the copy holds (-want +got):\n%s", d)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("copy: %v, %v", info, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) != 1 {
		t.Errorf("beside the copy stand %v", left)
	}
	var sessions int
	copied, err := OpenDB(path)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if err := copied.QueryRow(`SELECT count(*) FROM session`).Scan(&sessions); err != nil || sessions != 0 {
		t.Errorf("%d open logins are in the copy, %v", sessions, err)
	}
	if len(r.sessions) != 1 {
		t.Error("the original lost its open login")
	}
	if _, err := CopyDB(t.Context(), db, path); err == nil {
		t.Error("a copy went over a file")
	}
}

func TestCheckFindsDamage(t *testing.T) {
	r, db := opened(t, t.TempDir())
	for i := range 200 {
		if err := r.AddBoard(t.Context(), "pi-"+string(rune('a'+i%26))+strings.Repeat("x", i/26), map[string]string{"rack": strings.Repeat("r", 60)}); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	if _, err := CopyDB(t.Context(), db, path); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f := func(what string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := CheckDB(t.Context(), path); err == nil {
			t.Errorf("%s: %+v", what, c)
		}
	}
	f("half of it", whole[:len(whole)/2])
	f("nothing", nil)
	f("another file", []byte(strings.Repeat("no database at all ", 500)))
	wiped := bytes.Clone(whole)
	clear(wiped[4096:8192])
	f("an empty page", wiped)
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := CheckDB(t.Context(), path); err != nil {
		t.Errorf("as it was: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := CheckDB(t.Context(), path); err == nil {
		t.Error("a file that is gone")
	}
}

// TestCopyHasNoKeys looks for the bytes of a key in a copy, and puts it back.
func TestCopyHasNoKeys(t *testing.T) {
	_, db := opened(t, t.TempDir())
	key := []byte("a key that signs acknowledgements")
	for _, q := range []string{`CREATE TABLE some_key (id INTEGER PRIMARY KEY CHECK (id = 1), key BLOB NOT NULL) STRICT`, `CREATE TABLE other_key (id INTEGER PRIMARY KEY CHECK (id = 1), key BLOB NOT NULL) STRICT`} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Exec(`INSERT INTO some_key VALUES (1, ?)`, key); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	keys, err := CopyDB(t.Context(), db, path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Keys{"some_key": key}, keys); d != "" {
		t.Errorf("keys (-want +got):\n%s", d)
	}
	if text, err := os.ReadFile(path); err != nil || bytes.Contains(text, key) {
		t.Errorf("the copy has the key in the clear (%v)", err)
	}
	if err := PutKeys(t.Context(), path, Keys{"board": key}); err == nil || !strings.Contains(err.Error(), `no table "board"`) {
		t.Errorf("a key for the boards' table: %v", err)
	}
	if err := PutKeys(t.Context(), path, keys); err != nil {
		t.Fatal(err)
	}
	copied, err := OpenDB(path)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	var got []byte
	if err := copied.QueryRow(`SELECT key FROM some_key`).Scan(&got); err != nil || !bytes.Equal(got, key) {
		t.Errorf("the key came back as %q, %v", got, err)
	}
}
