package database

import (
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite"
)

// A panic of one write is taken back, comes to its caller, and leaves the writer to the next one.
func TestPanicOfOneWrite(t *testing.T) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TABLE one (n INTEGER)`); err != nil {
		t.Fatal(err)
	}
	w := NewWriter(db)
	insert := func(c *sql.Conn) error {
		_, err := c.ExecContext(t.Context(), `INSERT INTO one VALUES (1)`)
		return err
	}
	func() {
		defer func() {
			var fault *Fault
			if err, _ := recover().(error); !errors.As(err, &fault) || fault.Value != "not prepared for this" || len(fault.Stack) == 0 {
				t.Errorf("got %v", err)
			}
		}()
		t.Error("came back with", w.Do(func(c *sql.Conn) error {
			return errors.Join(insert(c), func() error { panic("not prepared for this") }())
		}))
	}()
	if err := w.Do(insert); err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := db.QueryRow(`SELECT count(*) FROM one`).Scan(&rows); err != nil || rows != 1 {
		t.Errorf("%d rows, error %v; want the second write alone", rows, err)
	}
}
