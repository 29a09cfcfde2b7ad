package registry

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bramble/pisensor/report"
)

// enrolledBoard is a board with its token and key.
func enrolledBoard(t *testing.T, r *Registry, name string) (token report.Token, k string) {
	t.Helper()
	if err := r.AddBoard(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
	token, k = must(r.NewBoardToken(t.Context(), name, pin))(t), key(t)
	must(ask(t, r, token, k, ""))(t)
	return token, k
}

// saved returns what puts today's database back later, as a restore does.
func saved(t *testing.T, dir string, db *sql.DB) (restore func() *Registry) {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "copy.db")
	if _, err := db.Exec(`VACUUM INTO ?`, copied); err != nil {
		t.Fatal(err)
	}
	return func() *Registry {
		t.Helper()
		db.Close()
		text, err := os.ReadFile(copied)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "state #1?.db")
		for _, log := range []string{"-wal", "-shm"} {
			os.Remove(path + log)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		r, _ := opened(t, dir)
		return r
	}
}

func TestARevokedKeyIsNeverTakenAgain(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	r, db := opened(t, dir)
	_, k := enrolledBoard(t, r, "b1")
	if err := r.Revoke(ctx, "b1"); err != nil {
		t.Fatal(err)
	}
	token := must(r.NewBoardToken(ctx, "b1", pin))(t)
	rack := must(r.NewRackToken(ctx, "r1", nil, 1, pin))(t)
	for range 2 {
		for _, token := range []report.Token{token, rack} {
			_, err := ask(t, r, token, k, "")
			wants(t, err, "stays void", "--new-key", "remove board.nk")
		}
		r = again(t, dir, db)
		db = r.db
	}
	fresh := key(t)
	must(ask(t, r, token, fresh, ""))(t)
	r = again(t, dir, db)
	if b, ok := r.BoardOfKey(fresh); !ok || b.Name != "b1" {
		t.Error("the new key is void as well")
	}
}

func TestARestoredDatabaseBringsNoRevokedKeyBack(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	r, db := opened(t, dir)
	first, k1 := enrolledBoard(t, r, "b1")
	second, k2 := enrolledBoard(t, r, "b2")
	_, k3 := enrolledBoard(t, r, "b3")
	renewing, k4 := enrolledBoard(t, r, "b4")
	restore := saved(t, dir, db)
	must(ask(t, r, first, key(t), ""))(t) // b1 is set up anew, and revoked with another key than the backup's
	next := key(t)
	if got := must(r.Enrol(ctx, report.EnrolRequest{Token: renewing.Credentials(), Key: next, Renew: true}))(t); got != (Enrolled{Board: "b4", Replaced: k4}) {
		t.Errorf("renewed: %+v", got)
	}
	for _, end := range []error{r.Revoke(ctx, "b1"), r.Retire(ctx, "b2")} {
		if end != nil {
			t.Fatal(end)
		}
	}
	r = restore()
	for _, k := range []string{k1, k2, k4} {
		if b, ok := r.BoardOfKey(k); ok {
			t.Errorf("a void key is %s's", b.Name)
		}
	}
	if b, ok := r.BoardOfKey(k3); !ok || b.Name != "b3" {
		t.Error("a key that nobody revoked is gone")
	}
	if b, ok := r.BoardOfKey(next); !ok || b.Name != "b4" {
		t.Error("the renewed key is not in force")
	}
	for _, token := range []report.Token{first, second} {
		_, err := ask(t, r, token, key(t), "")
		wants(t, err, "expired or was withdrawn")
	}
	_, err := ask(t, r, renewing, k4, "")
	wants(t, err, "stays void")
	must(ask(t, r, renewing, key(t), ""))(t)
	db = r.db
	before := must(r.Events(ctx, 100))(t)
	r = again(t, dir, db)
	if after := must(r.Events(ctx, 100))(t); len(after) != len(before) {
		t.Errorf("the next start changes something: %+v", after[0])
	}
}

// A kill between the list and the database leaves the key void, and a half line is no line.
func TestAKillBetweenListAndDatabase(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	r, db := opened(t, dir)
	_, k := enrolledBoard(t, r, "b1")
	restore := saved(t, dir, db)
	if err := r.Revoke(ctx, "b1"); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, VoidFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"at":17`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	r = restore()
	if _, ok := r.BoardOfKey(k); ok {
		t.Error("the key is in force")
	}
	if err := r.Revoke(ctx, "b1"); err != nil { // over the half line
		t.Fatal(err)
	}
	r = again(t, dir, r.db)
	if len(r.voids.all) != 2 {
		t.Errorf("the list has %+v", r.voids.all)
	}
	if err := os.WriteFile(filepath.Join(dir, VoidFile), []byte("{}\nnonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(ctx, r.db)
	wants(t, err, VoidFile, "line 2", "remove the line")
}

// A clock that is set back behind a revocation makes no later key void.
func TestAKeyAfterARevocationByAWrongClock(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	r, db := opened(t, dir)
	_, k := enrolledBoard(t, r, "b1")
	r.write.Lock()
	err := r.voids.append(void{At: time.Now().Add(time.Hour).UnixMilli(), Board: "b1", Key: k})
	r.write.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	r = again(t, dir, db)
	token, fresh := must(r.NewBoardToken(ctx, "b1", pin))(t), key(t)
	must(ask(t, r, token, fresh, ""))(t)
	r = again(t, dir, r.db)
	if _, ok := r.BoardOfKey(fresh); !ok {
		t.Error("the key is void")
	}
	must(ask(t, r, token, key(t), ""))(t)
}

func TestARacksTokenRenewsNothing(t *testing.T) {
	r, _ := opened(t, t.TempDir())
	rack := must(r.NewRackToken(t.Context(), "r1", nil, 2, pin))(t)
	must(ask(t, r, rack, key(t), ""))(t)
	_, err := r.Enrol(t.Context(), report.EnrolRequest{Token: rack.Credentials(), Key: key(t), Renew: true})
	wants(t, err, "renews no key", "collector board token NAME")
	if len(r.Boards()) != 1 {
		t.Errorf("%d boards", len(r.Boards()))
	}
}

func TestMergedListsHaveEachLineOnce(t *testing.T) {
	a, b := `{"at":1,"board":"b1","key":"k1"}`+"\n", `{"at":2,"board":"b2"}`+"\n"
	if got := string(MergeVoids([]byte(b), nil, []byte(a+b+"nonsense\n{}\n{\"at\":3"))); got != a+b {
		t.Errorf("merged: %s", got)
	}
}
