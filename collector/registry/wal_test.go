package registry

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// killed returns the database and the log of a process that was killed after five transactions, the fourth one larger
// than a page. Each adds a row with its number to the table n.
func killed(t *testing.T) (db, log []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	writer, err := openAlone(path, "rwc")
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	for _, statement := range []string{
		`PRAGMA page_size=512`, `PRAGMA journal_mode=WAL`, `PRAGMA synchronous=FULL`, `CREATE TABLE n (n INTEGER PRIMARY KEY, text TEXT)`, `PRAGMA wal_checkpoint(TRUNCATE)`,
		`INSERT INTO n VALUES (1, 'a')`, `INSERT INTO n VALUES (2, 'b')`, `INSERT INTO n VALUES (3, 'c')`,
		`INSERT INTO n VALUES (4, '` + strings.Repeat("d", 1500) + `')`, `INSERT INTO n VALUES (5, 'e')`,
	} {
		if _, err := writer.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	return read(t, path), read(t, path+"-wal")
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// put writes a database and its log, nil for none, into an empty directory, and returns the database's path.
func put(t *testing.T, db, log []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path, db, 0o600); err != nil {
		t.Fatal(err)
	}
	if log != nil {
		if err := os.WriteFile(path+"-wal", log, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// last is the number of the newest row that a start finds.
func last(t *testing.T, path string) (n int) {
	t.Helper()
	db, err := OpenDB(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var rows int
	if err := db.QueryRow(`SELECT max(n), count(*) FROM n`).Scan(&n, &rows); err != nil || rows != n {
		t.Errorf("%d rows up to %d, %v", rows, n, err)
	}
	return n
}

// TestEachByteOfALog flips every byte of a log. Unless it is in the last transaction, which may have been cut off before
// its fsync, the database is not opened, and no file is touched.
func TestEachByteOfALog(t *testing.T) {
	db, log := killed(t)
	if n := last(t, put(t, db, log)); n != 5 {
		t.Fatalf("the log as it is has %d transactions", n)
	}
	const frame = walFrame + 512
	if len(log) != walHeader+9*frame { // one each, and five for the fourth
		t.Fatalf("the log has %d bytes", len(log))
	}
	path := put(t, db, log)
	file, err := os.OpenFile(path+"-wal", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for at := range log {
		for _, flip := range []byte{1, 0xff} {
			if _, err := file.WriteAt([]byte{log[at] ^ flip}, int64(at)); err != nil {
				t.Fatal(err)
			}
			err := CheckLog(path)
			switch last := at >= len(log)-frame; {
			case err == nil && !last:
				t.Fatalf("byte %d ^ %#x: no error", at, flip)
			case err != nil && (!errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path+"-wal")):
				t.Fatalf("byte %d ^ %#x: %v", at, flip, err)
			}
		}
		if _, err := file.WriteAt(log[at:at+1], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	lost := bytes.Clone(log)
	lost[len(log)-100] ^= 1
	if n := last(t, put(t, db, lost)); n != 4 {
		t.Errorf("without the last transaction %d of 5 are left", n)
	}
	refused := bytes.Clone(log)
	refused[len(log)/2] ^= 1
	path = put(t, db, refused)
	if _, err := OpenDB(path); !errors.Is(err, ErrDamaged) {
		t.Errorf("a damaged log is opened: %v", err)
	}
	if !bytes.Equal(read(t, path), db) || !bytes.Equal(read(t, path+"-wal"), refused) {
		t.Error("a file was changed")
	}
	if files, _ := filepath.Glob(path + "*"); len(files) != 2 {
		t.Errorf("files %v", files)
	}
}

// TestATornLogIsNoDamage has a power loss leave a prefix of a log, or any part of its last transaction.
func TestATornLogIsNoDamage(t *testing.T) {
	db, log := killed(t)
	path := put(t, db, nil)
	whole := func(what string, torn []byte) {
		t.Helper()
		if err := os.WriteFile(path+"-wal", torn, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := CheckLog(path); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for n := 0; n < len(log); n += 11 {
		whole(fmt.Sprintf("%d bytes", n), log[:n])
	}
	const frame = walFrame + 512
	fourth := log[:len(log)-frame]
	for i := range 4 { // of the fourth transaction's frames some are missing, the commit is there
		torn := bytes.Clone(fourth)
		clear(torn[len(torn)-(5-i)*frame:][:frame])
		whole(fmt.Sprintf("frame %d is empty", i), torn)
		if n := last(t, put(t, db, torn)); n != 3 {
			t.Errorf("frame %d is empty: %d transactions", i, n)
		}
	}
}

// TestALogOfTwoGenerations begins a log again after a checkpoint: frames of the older generation lie behind its end.
func TestALogOfTwoGenerations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db, err := OpenDB(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{
		`CREATE TABLE n (n INTEGER PRIMARY KEY)`, `INSERT INTO n VALUES (1)`, `INSERT INTO n VALUES (2)`, `PRAGMA wal_checkpoint(RESTART)`, `INSERT INTO n VALUES (3)`,
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	copied := put(t, read(t, path), read(t, path+"-wal"))
	if n := last(t, copied); n != 3 {
		t.Errorf("%d rows", n)
	}
}

// SQLite would delete a log without its database.
func TestALogWithoutItsDatabase(t *testing.T) {
	_, log := killed(t)
	if _, err := OpenDB(put(t, nil, log)); !errors.Is(err, ErrDamaged) {
		t.Errorf("error %v", err)
	}
}

// TestADamagedPageIsNotOpened overwrites the header of a b-tree page with content that SQLite meets only when it reads it.
func TestADamagedPageIsNotOpened(t *testing.T) {
	db, log := killed(t)
	path := put(t, db, log)
	if n := last(t, path); n != 5 { // closing brings the log into the database
		t.Fatal(n)
	}
	damaged := read(t, path)
	damaged[512] ^= 0xff // the type of page 2, the root of table n
	path = put(t, damaged, nil)
	if _, err := OpenDB(path); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want one that names %s", err, path)
	}
	if err := checkWithin(path, 0); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "quick_check") {
		t.Errorf("without time for all of it: %v", err)
	}
	if err := checkWithin(put(t, db, log), 0); err != nil {
		t.Errorf("a whole one: %v", err)
	}
	if files, _ := filepath.Glob(path + "*"); len(files) != 1 || !bytes.Equal(read(t, path), damaged) {
		t.Errorf("something was changed: %v", files)
	}
}

// TestCheckpointEmptiesTheLog also while somebody reads; nobody is waited for.
func TestCheckpointEmptiesTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db, err := OpenDB(path)
	if err != nil {
		t.Fatal(err)
	}
	r := NewReserve(path)
	t.Cleanup(func() {
		if err := errors.Join(db.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	})
	checkpoint := func() int64 {
		t.Helper()
		if err := errors.Join(r.Checkpoint(t.Context()), r.Keep()); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	if _, err := db.Exec(`CREATE TABLE n (n INTEGER PRIMARY KEY); INSERT INTO n VALUES (1)`); err != nil {
		t.Fatal(err)
	}
	if n := checkpoint(); n != 0 {
		t.Errorf("the log has %d bytes", n)
	}
	reader, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	var n int
	if _, err := reader.ExecContext(t.Context(), `BEGIN`); err != nil {
		t.Fatal(err)
	}
	if err := reader.QueryRowContext(t.Context(), `SELECT count(*) FROM n`).Scan(&n); err != nil || n != 1 {
		t.Fatalf("%d rows, %v", n, err)
	}
	if _, err := db.Exec(`INSERT INTO n VALUES (2)`); err != nil {
		t.Fatal(err)
	}
	if n := checkpoint(); n == 0 {
		t.Error("the log was taken from a reader")
	}
	if _, err := reader.ExecContext(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	if n := checkpoint(); n != 0 {
		t.Errorf("the log has %d bytes once nobody reads", n)
	}
	if n := last(t, put(t, read(t, path), nil)); n != 2 {
		t.Errorf("the database alone has %d rows", n)
	}
}
