package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"

	"bramble/pisensor/report"
	"bramble/storage/statedb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// opened returns a registry on a database in dir and how to close it.
func opened(t *testing.T, dir string) (*Registry, *sql.DB) {
	t.Helper()
	db, err := OpenDB(filepath.Join(dir, "state #1?.db")) // characters that a database URL would take for its own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	r, err := Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	return r, db
}

// again opens a second registry on the same file, as a restart does.
func again(t *testing.T, dir string, db *sql.DB) *Registry {
	t.Helper()
	db.Close()
	r, _ := opened(t, dir)
	return r
}

func key(t *testing.T) string {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public
}

const pin = "pin"

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wants fails unless err holds every word.
func wants(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q lacks %q", err, w)
		}
	}
}

func TestDatabaseKeepsItsPromises(t *testing.T) {
	dir := t.TempDir()
	_, db := opened(t, dir)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "busy_timeout": "10000", "foreign_keys": "1"} {
		var got string
		if err := db.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %q, %v; want %s", pragma, got, err, want)
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) < 2 {
		t.Fatalf("files %q: want the database and its log", files)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v; want 0600", f, info.Mode(), err)
		}
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	_, db := opened(t, t.TempDir())
	if _, err := db.Exec(`UPDATE schema_version SET version = 99`); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), db)
	wants(t, err, "version 99", fmt.Sprintf("knows %d", statedb.Tables().Version))
}

func TestLabelsAreInForceFromTheirInstantOn(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	r, db := opened(t, dir)
	if err := r.AddBoard(ctx, "b1", map[string]string{"rack": "r1", "customer": "ann"}); err != nil {
		t.Fatal(err)
	}
	b, _ := r.Board("b1")
	start, before := b.Versions[0].From, r.Generation()
	if err := r.Relabel(ctx, "b1", map[string]string{"customer": "bob", "switch": "s1"}, start+2000); err != nil {
		t.Fatal(err)
	}
	if r.Generation() == before {
		t.Error("generation is the same after a relabel")
	}
	// Said later, but in force earlier: the later version learns of it as well.
	if err := r.Relabel(ctx, "b1", map[string]string{"rack": ""}, start+1000); err != nil {
		t.Fatal(err)
	}
	if got := len(b.Versions); got != 1 {
		t.Errorf("a snapshot changed: %d versions", got)
	}
	for _, r := range []*Registry{r, again(t, dir, db)} {
		b, _ := r.Board("b1")
		for at, want := range map[int64]map[string]string{
			start - 5000: {"rack": "r1", "customer": "ann"},
			start + 999:  {"rack": "r1", "customer": "ann"},
			start + 1000: {"customer": "ann"},
			start + 1999: {"customer": "ann"},
			start + 2000: {"customer": "bob", "switch": "s1"},
			start + 1e9:  {"customer": "bob", "switch": "s1"},
		} {
			if d := cmp.Diff(want, Map(b.At(at))); d != "" {
				t.Errorf("labels at start%+d (-want +got):\n%s", at-start, d)
			}
		}
	}
}

func TestBadNamesAndLabelsAreRefusedWithTheNextStep(t *testing.T) {
	ctx := t.Context()
	r, _ := opened(t, t.TempDir())
	wants(t, r.AddBoard(ctx, "B 1", nil), `"B 1"`, "a-z")
	for _, bad := range []map[string]string{{"1a": "x"}, {"__a": "x"}, {"": "x"}, {"a-b": "x"}, {strings.Repeat("a", 65): "x"}} {
		wants(t, r.AddBoard(ctx, "b1", bad), "label name", "use 1 to 64")
	}
	for _, name := range []string{"board", "source", "reason", "device", "op"} {
		wants(t, r.AddBoard(ctx, "b1", map[string]string{name: "x"}), name, "choose another")
	}
	wants(t, r.AddBoard(ctx, "b1", map[string]string{"rack": strings.Repeat("x", 129)}), "129 bytes", "128")
	wants(t, r.AddBoard(ctx, "b1", map[string]string{"rack": "a\nb"}), `"a\nb"`, "printable")
	wants(t, r.AddBoard(ctx, "b1", map[string]string{"rack": "\xff"}), "printable")
	many := map[string]string{}
	for i := range MaxLabels + 1 {
		many["l"+strings.Repeat("x", i)] = "v"
	}
	wants(t, r.AddBoard(ctx, "b1", many), "25 labels", "24")
	if n := len(r.Boards()); n != 0 {
		t.Errorf("%d boards were registered", n)
	}
	wants(t, r.Relabel(ctx, "ghost", nil, 0), "ghost", "board list")
	if !errors.Is(r.Revoke(ctx, "ghost"), ErrNotFound) {
		t.Error("revoke of an unknown board is not ErrNotFound")
	}
	if err := r.AddBoard(ctx, "b1", nil); err != nil {
		t.Fatal(err)
	}
	wants(t, r.AddBoard(ctx, "b1", nil), "exists already", "board token b1")
}

func TestBoardTokenEnrols(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	r, db := opened(t, dir)
	if err := r.AddBoard(ctx, "b1", nil); err != nil {
		t.Fatal(err)
	}
	token := must(r.NewBoardToken(ctx, "b1", pin))(t)
	k1 := key(t)
	ask := func(r *Registry, token report.Token, key string) (Enrolled, error) {
		return r.Enrol(ctx, report.EnrolRequest{Token: token.Credentials(), Key: key})
	}
	wrong := token
	wrong.Secret = strings.Repeat("0", 32)
	_, err := ask(r, wrong, k1)
	wants(t, err, "access denied", "board token")
	_, err = ask(r, token, "not a key")
	wants(t, err, "not a key", "no public user key")
	for i := range 2 {
		if got := must(ask(r, token, k1))(t); got != (Enrolled{Board: "b1", Repeated: i == 1}) {
			t.Errorf("enrolled %+v", got)
		}
	}
	r = again(t, dir, db)
	if got := must(ask(r, token, k1))(t); got != (Enrolled{Board: "b1", Repeated: true}) {
		t.Errorf("after a restart: enrolled %+v", got)
	}
	if b, ok := r.BoardOfKey(k1); !ok || b.Name != "b1" || b.Enrolled.IsZero() {
		t.Errorf("after a restart the key belongs to %+v", b)
	}
	if err := r.Revoke(ctx, "b1"); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.BoardOfKey(k1); ok {
		t.Error("a revoked key is known")
	}
	_, err = ask(r, token, k1)
	wants(t, err, "expired or was withdrawn", "collector board token b1")
	if strings.Contains(err.Error(), token.Secret) {
		t.Error("the error shows the secret")
	}
}

// ask enrols a key with a token.
func ask(t *testing.T, r *Registry, token report.Token, key, name string) (Enrolled, error) {
	t.Helper()
	return r.Enrol(t.Context(), report.EnrolRequest{Token: token.Credentials(), Key: key, Name: name})
}

func TestBoardComesBackAfterAReinstallWithItsToken(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	r, db := opened(t, dir)
	for _, name := range []string{"b1", "b2"} {
		if err := r.AddBoard(ctx, name, nil); err != nil {
			t.Fatal(err)
		}
	}
	unused := must(r.NewBoardToken(ctx, "b2", pin))(t)
	token := must(r.NewBoardToken(ctx, "b1", pin))(t)
	k1, k2 := key(t), key(t)
	must(ask(t, r, token, k1, ""))(t)
	// A year passes: the time to the first use is over for both.
	if _, err := db.Exec(`UPDATE enrol_token SET created = created - 31536000000, expires = CASE expires WHEN 0 THEN 0 ELSE expires - 31536000000 END`); err != nil {
		t.Fatal(err)
	}
	r = again(t, dir, db)
	_, err := ask(t, r, unused, key(t), "")
	wants(t, err, "expired or was withdrawn", "collector board token b2")
	if got := must(ask(t, r, token, k2, ""))(t); got != (Enrolled{Board: "b1", Replaced: k1}) {
		t.Errorf("enrolled %+v", got)
	}
	if _, ok := r.BoardOfKey(k1); ok {
		t.Error("the key before is still in force")
	}
	if got := must(ask(t, r, token, k2, ""))(t); !got.Repeated {
		t.Errorf("asked again: %+v", got)
	}
	e := must(r.Events(ctx, 1))(t)[0]
	if e.Action != "replace key" || e.Object != "b1" || !strings.Contains(e.Detail, k1) || !strings.Contains(e.Detail, k2) || strings.Contains(e.Detail, token.Secret) {
		t.Errorf("audit: %+v", e)
	}
	// The token is b1's: it takes no key of another board.
	second := must(r.NewBoardToken(ctx, "b2", pin))(t)
	k3 := key(t)
	must(ask(t, r, second, k3, ""))(t)
	_, err = ask(t, r, token, k3, "")
	wants(t, err, "belongs to board b2 already")
	// A new token withdraws it, and so does a revocation.
	third := must(r.NewBoardToken(ctx, "b1", pin))(t)
	_, err = ask(t, r, token, k1, "")
	wants(t, err, "expired or was withdrawn")
	if got := must(ask(t, r, token, k2, ""))(t); !got.Repeated {
		t.Errorf("the key in force, with the token withdrawn: %+v", got)
	}
	must(ask(t, r, third, k1, ""))(t)
	for _, end := range []func() error{
		func() error { return r.Revoke(ctx, "b1") },
		func() error { return r.Retire(ctx, "b2") },
	} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	r = again(t, dir, r.db)
	_, err = ask(t, r, third, key(t), "")
	wants(t, err, "expired or was withdrawn", "collector board token b1")
	_, err = ask(t, r, second, key(t), "")
	wants(t, err, "retired")
}

func TestTwoMachinesDoNotFightOverABoardForever(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	r, db := opened(t, dir)
	if err := r.AddBoard(ctx, "b1", nil); err != nil {
		t.Fatal(err)
	}
	token := must(r.NewBoardToken(ctx, "b1", pin))(t)
	keys := []string{key(t), key(t)}
	for i := range keyChanges + 1 {
		if i == 3 {
			r = again(t, dir, db) // a restart forgives nothing
		}
		must(ask(t, r, token, keys[i%2], ""))(t)
	}
	for range 3 {
		_, err := ask(t, r, token, keys[(keyChanges+1)%2], "")
		wants(t, err, "6 times within an hour", "two machines", "collector board token NAME", "after ")
	}
	in := keys[keyChanges%2]
	if b, ok := r.BoardOfKey(in); !ok || b.Name != "b1" {
		t.Error("the key in force did not stay")
	}
	if got := must(ask(t, r, token, in, ""))(t); !got.Repeated {
		t.Errorf("the key in force: %+v", got)
	}
	var refused, stored int
	if err := r.db.QueryRow(`SELECT (SELECT count(*) FROM audit WHERE action = 'refuse key' AND object = 'b1'), (SELECT count(*) FROM enrol_use)`).Scan(&refused, &stored); err != nil {
		t.Fatal(err)
	}
	if refused != 1 || stored != 1 {
		t.Errorf("%d refusals recorded and %d keys kept, want 1 and 1", refused, stored)
	}
	// An hour later, or with another token, the operator's board gets in.
	if _, err := r.db.Exec(`UPDATE audit SET at = at - 3600000`); err != nil {
		t.Fatal(err)
	}
	r = again(t, dir, r.db)
	must(ask(t, r, token, key(t), ""))(t)
	must(ask(t, r, must(r.NewBoardToken(ctx, "b1", pin))(t), key(t), ""))(t)
}

// A rack's token gives names of its own alone, and its answers say nothing about other boards.
func TestRackTokenTellsNothingOfOtherBoards(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	r, db := opened(t, dir)
	for _, name := range []string{"b1", "r1-01"} {
		if err := r.AddBoard(ctx, name, nil); err != nil {
			t.Fatal(err)
		}
	}
	token := must(r.NewRackToken(ctx, "r1", nil, 6, pin))(t)
	k := key(t)
	if got := must(ask(t, r, token, k, "r1-04"))(t).Board; got != "r1-04" {
		t.Errorf("its own free name: %s", got)
	}
	var got []string
	for i, name := range []string{"b1", "b2", "collector", "r1-99", "r1-04"} { // the first is a board's, the last one as well
		if i == 2 {
			r = again(t, dir, db)
		}
		got = append(got, must(ask(t, r, token, key(t), name))(t).Board)
	}
	if d := cmp.Diff([]string{"r1-02", "r1-03", "r1-05", "r1-06", "r1-07"}, got); d != "" {
		t.Errorf("names (-want +got):\n%s", d)
	}
	if b, ok := r.BoardOfKey(k); !ok || b.Name != "r1-04" {
		t.Error("the key in force did not stay")
	}
	if got := must(ask(t, r, token, k, "another"))(t); got != (Enrolled{Board: "r1-04", Repeated: true}) {
		t.Errorf("asked again: %+v", got)
	}
	for _, name := range []string{"b1", "b2"} {
		_, err := ask(t, r, token, key(t), name)
		wants(t, err, "all of its 6 boards", "collector board token NAME")
	}
}

func TestTokenForNames(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	r, db := opened(t, dir)
	make := func(text string) (token report.Token, count int) {
		t.Helper()
		token, count, err := r.NewNamesToken(ctx, text, "r1", map[string]string{"site": "ams"}, pin)
		if err != nil {
			t.Fatal(err)
		}
		return token, count
	}
	if err := r.AddBoard(ctx, "r1-a-03", nil); err != nil {
		t.Fatal(err)
	}
	token, count := make("r1-a-01..04, spare,r1-01..02")
	if count != 6 {
		t.Errorf("%d names, want 6", count)
	}
	numbered := must(r.NewRackToken(ctx, "r1", nil, 2, pin))(t)
	r = again(t, dir, db)
	var got []string
	for _, name := range []string{"spare", "r1-a-02", "r1-a-2", "r1-a-05", "r1-a-03"} {
		got = append(got, must(ask(t, r, token, key(t), name))(t).Board)
	}
	// The rack's numbers that are registered for another token are not given away.
	got = append(got, must(ask(t, r, numbered, key(t), "r1-02"))(t).Board)
	if d := cmp.Diff([]string{"spare", "r1-a-02", "r1-a-01", "r1-a-04", "r1-01", "r1-03"}, got); d != "" {
		t.Errorf("names (-want +got):\n%s", d)
	}
	b, _ := r.Board("spare")
	if d := cmp.Diff([]Label{{"rack", "r1"}, {"site", "ams"}}, b.At(0)); d != "" {
		t.Errorf("labels (-want +got):\n%s", d)
	}
	next, count := make("r1-01..05") // r1-02, r1-04 and r1-05 are free
	if count != 3 {
		t.Errorf("%d names, want 3", count)
	}
	_, err := ask(t, r, token, key(t), "r1-02")
	wants(t, err, "expired or was withdrawn", "--names NAMES")
	if err := r.AddBoard(ctx, "r1-05", nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		must(ask(t, r, next, key(t), ""))(t)
	}
	_, err = ask(t, r, next, key(t), "")
	wants(t, err, "no name left", "--names NAMES")
	_, _, err = r.NewNamesToken(ctx, "r1-01..02", "r1", nil, pin)
	wants(t, err, "boards have all names", "board token NAME")
}

func TestNamesOfAToken(t *testing.T) {
	for text, want := range map[string]string{
		"r1-a-01..48": "r1-a-01 r1-a-48 48", "b": "b b 1", "b8..11,c": "b8 c 5", "x-099..101": "x-099 x-101 3",
	} {
		n, err := parseNames(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := fmt.Sprint(n.at(0), " ", n.at(n.len()-1), " ", n.len()); got != want || n.at(n.len()) != "" {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
		for i := range n.len() {
			if !n.has(n.at(i)) {
				t.Errorf("%s lacks %s", text, n.at(i))
			}
		}
		for _, other := range []string{"", "r1-a-1", "r1-a-49", "r1-a-+1", "r1-a-001", "b7", "b12", "b08", "d", "x-99", "x-0100"} {
			if n.has(other) {
				t.Errorf("%s has %s", text, other)
			}
		}
	}
	for text, part := range map[string]string{
		"": "board name", "r1-a-..48": "a run is written", "r1-5..4": "a run is written", "r1-1..x": "a run is written", "R1-1..2": "board name",
		"a,a": "twice", "a-1..3,a-2": "twice", "a-1..99999": "at most 10000", "a-1..9000,b-1..9000": "more than 10000",
	} {
		_, err := parseNames(text)
		wants(t, err, part)
	}
}

func TestNewBoardTokenReplacesKeyAndToken(t *testing.T) {
	ctx := t.Context()
	r, _ := opened(t, t.TempDir())
	if err := r.AddBoard(ctx, "b1", nil); err != nil {
		t.Fatal(err)
	}
	lost := must(r.NewBoardToken(ctx, "b1", pin))(t)
	second := must(r.NewBoardToken(ctx, "b1", pin))(t)
	k1, k2 := key(t), key(t)
	_, err := r.Enrol(ctx, report.EnrolRequest{Token: lost.Credentials(), Key: k1})
	wants(t, err, "expired or was withdrawn", "collector board token b1")
	must(r.Enrol(ctx, report.EnrolRequest{Token: second.Credentials(), Key: k1}))(t)
	third := must(r.NewBoardToken(ctx, "b1", pin))(t)
	if _, ok := r.BoardOfKey(k1); !ok {
		t.Error("a token that nobody used has ended the key in force")
	}
	must(r.Enrol(ctx, report.EnrolRequest{Token: third.Credentials(), Key: k2}))(t)
	if _, ok := r.BoardOfKey(k1); ok {
		t.Error("the key before is still in force")
	}
	other := must(r.NewRackToken(ctx, "r1", nil, 1, pin))(t)
	_, err = r.Enrol(ctx, report.EnrolRequest{Token: other.Credentials(), Key: k2})
	wants(t, err, "belongs to another board already")
	if strings.Contains(err.Error(), "b1") {
		t.Errorf("a rack's token is told the name: %v", err)
	}
}

func TestExpiredTokenIsRefused(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	r, db := opened(t, dir)
	token := must(r.NewRackToken(ctx, "r1", nil, 2, pin))(t)
	k := key(t)
	must(r.Enrol(ctx, report.EnrolRequest{Token: token.Credentials(), Key: k}))(t)
	if _, err := db.Exec(`UPDATE enrol_token SET expires = ?`, time.Now().Add(-time.Second).UnixMilli()); err != nil {
		t.Fatal(err)
	}
	r = again(t, dir, db)
	_, err := r.Enrol(ctx, report.EnrolRequest{Token: token.Credentials(), Key: key(t)})
	wants(t, err, "expired", "collector board token --rack 'r1' --count N")
	if _, err := r.Enrol(ctx, report.EnrolRequest{Token: token.Credentials(), Key: k}); err != nil {
		t.Errorf("a board that asks again: %v", err)
	}
}

func TestRackTokenCreatesItsCountOfBoards(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	r, db := opened(t, dir)
	if err := r.AddBoard(ctx, "rack-7-02", nil); err != nil {
		t.Fatal(err)
	}
	token := must(r.NewRackToken(ctx, "Rack 7", map[string]string{"site": "ams"}, 4, pin))(t)
	var got []string
	for i, wanted := range []string{"pi-kitchen", "", "Not Valid", "-"} {
		if i == 2 {
			r = again(t, dir, db) // the count survives
		}
		got = append(got, must(r.Enrol(ctx, report.EnrolRequest{Token: token.Credentials(), Key: key(t), Name: wanted}))(t).Board)
	}
	if d := cmp.Diff([]string{"rack-7-01", "rack-7-03", "rack-7-04", "rack-7-05"}, got); d != "" {
		t.Errorf("names (-want +got):\n%s", d)
	}
	_, err := r.Enrol(ctx, report.EnrolRequest{Token: token.Credentials(), Key: key(t), Name: "x"})
	wants(t, err, "all of its 4 boards", "--rack 'Rack 7'")
	b, _ := r.Board("rack-7-01")
	if d := cmp.Diff([]Label{{"rack", "Rack 7"}, {"site", "ams"}}, b.At(0)); d != "" {
		t.Errorf("labels (-want +got):\n%s", d)
	}
}

func TestRetiredBoardStaysOut(t *testing.T) {
	ctx := t.Context()
	r, _ := opened(t, t.TempDir())
	token := must(r.NewRackToken(ctx, "r1", nil, 2, pin))(t)
	k := key(t)
	name := must(r.Enrol(ctx, report.EnrolRequest{Token: token.Credentials(), Key: k}))(t).Board
	if err := r.Retire(ctx, name); err != nil {
		t.Fatal(err)
	}
	_, err := r.Enrol(ctx, report.EnrolRequest{Token: token.Credentials(), Key: k})
	wants(t, err, "retired")
	_, err = r.NewBoardToken(ctx, name, pin)
	wants(t, err, "retired")
	wants(t, r.AddBoard(ctx, name, nil), "retired", "another name")
	if b, ok := r.Board(name); !ok || !b.Retired || b.Key != "" {
		t.Errorf("retired board is %+v", b)
	}
}

func TestUsersSessionsAndAPITokens(t *testing.T) {
	dir, ctx := t.TempDir(), WithActor(t.Context(), "local kim")
	r, db := opened(t, dir)
	wants(t, r.AddUser(ctx, "kim", "short", Viewer), "5 characters", "8")
	wants(t, r.AddUser(ctx, "k m", "long enough", Viewer), `"k m"`)
	wants(t, r.AddUser(ctx, "kim", "long enough", "root"), `"root"`, "viewer, operator or admin")
	if err := r.AddUser(ctx, "kim", "long enough", Operator); err != nil {
		t.Fatal(err)
	}
	wants(t, r.AddUser(ctx, "kim", "long enough", Operator), "exists already", "user passwd kim")
	for _, bad := range [][2]string{{"kim", "wrong word"}, {"ghost", "long enough"}, {"kim", ""}} {
		if _, err := r.Login(ctx, bad[0], bad[1]); !errors.Is(err, ErrDenied) {
			t.Errorf("log in as %q: %v, want ErrDenied", bad, err)
		}
	}
	first, second := must(r.Login(ctx, "kim", "long enough"))(t), must(r.Login(ctx, "kim", "long enough"))(t)
	bearer := must(r.CreateAPIToken(ctx, "grafana", Viewer))(t)
	if err := r.Logout(ctx, first); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*Registry{r, again(t, dir, db)} {
		for credential, want := range map[string]Identity{
			second: {Name: "kim", Role: Operator}, bearer: {Name: "token grafana", Role: Viewer},
			first: {}, bearer + "0": {}, "bra1.": {}, "": {},
		} {
			who, err := r.Authenticate(credential)
			if who != want || errors.Is(err, ErrDenied) != (want == Identity{}) {
				t.Errorf("credential %.12q is %v, %v; want %v", credential, who, err, want)
			}
		}
	}
	r = again(t, dir, db)
	if err := r.SetPassword(ctx, "kim", "another word"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Authenticate(second); !errors.Is(err, ErrDenied) {
		t.Error("a session outlived the password")
	}
	third := must(r.Login(ctx, "kim", "another word"))(t)
	if err := r.RemoveUser(ctx, "kim"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Authenticate(third); !errors.Is(err, ErrDenied) {
		t.Error("a session outlived its user")
	}
	if err := r.RevokeAPIToken(ctx, r.APITokens()[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Authenticate(bearer); !errors.Is(err, ErrDenied) {
		t.Error("a revoked token lets in")
	}
	wants(t, r.RevokeAPIToken(ctx, "nope"), `"nope"`, "token list")
}

func TestAuditNamesActorAndAction(t *testing.T) {
	r, _ := opened(t, t.TempDir())
	ctx := WithActor(context.Background(), "local kim")
	if err := r.AddBoard(ctx, "b1", map[string]string{"rack": "r1"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Revoke(context.Background(), "b1"); err != nil {
		t.Fatal(err)
	}
	events := must(r.Events(context.Background(), 10))(t)
	for i := range events {
		if time.Since(events[i].At) > time.Minute {
			t.Errorf("event at %v", events[i].At)
		}
		events[i].At = time.Time{}
	}
	want := []Event{
		{Actor: "collector", Action: "revoke board", Object: "b1"},
		{Actor: "local kim", Action: "add board", Object: "b1", Detail: "rack=r1"},
	}
	if d := cmp.Diff(want, events); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
}

func TestNoSecretReachesTheDisk(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	r, db := opened(t, dir)
	token := must(r.NewRackToken(ctx, "r1", nil, 1, pin))(t)
	bearer := must(r.CreateAPIToken(ctx, "", Admin))(t)
	if err := r.AddUser(ctx, "kim", "correct horse", Admin); err != nil {
		t.Fatal(err)
	}
	session := must(r.Login(ctx, "kim", "correct horse"))(t)
	db.Close() // folds the log into the database
	text, err := os.ReadFile(filepath.Join(dir, "state #1?.db"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), token.ID) {
		t.Fatal("the token's id is not there: the search would find nothing")
	}
	for _, secret := range []string{token.Secret, strings.Split(bearer, ".")[2], "correct horse", session} {
		if strings.Contains(string(text), secret) {
			t.Errorf("secret %.6q… is on the disk", secret)
		}
	}
}

func TestMisspelt(t *testing.T) {
	for name, want := range map[string]string{
		"rack": "", "switch": "", "nfs": "", "site": "", "customer": "", "model": "", "room": "", "": "", "r": "",
		"racks": "rack", "rac": "rack", "rakc": "rack", "rock": "rack", "Rack": "rack", "RACK": "rack", "ack": "rack",
		"swich": "switch", "swtich": "switch", "switches": "", "nsf": "nfs", "nfs1": "nfs", "fs": "nfs", "sit": "site", "sites": "site",
		"custmer": "customer", "customers": "customer", "costomer": "customer", "costumer": "",
	} {
		if got := Misspelt(name); got != want {
			t.Errorf("Misspelt(%q) = %q, want %q", name, got, want)
		}
	}
}

func FuzzParseLabels(f *testing.F) {
	for _, s := range []string{"rack=r1", "a=b=c", "=", "board=x", "__x=1", "a=\x00", "a=", "ü=1", "a=日本"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		labels, err := ParseLabels([]string{s})
		if err != nil {
			return
		}
		name, value, _ := strings.Cut(s, "=")
		if len(labels) != 1 || labels[name] != value {
			t.Fatalf("%q became %q", s, labels)
		}
		kept, err := decodeLabels(encodeLabels(sorted(labels)))
		if err != nil || (value != "" && Map(kept)[name] != value) || (value == "" && len(kept) != 0) {
			t.Fatalf("%q stored and read is %q, %v", s, kept, err)
		}
		for _, bad := range []string{"-", " ", "\n", "\"", "{", "é"} {
			if strings.Contains(name, bad) {
				t.Fatalf("name %q passed", name)
			}
		}
	})
}

func BenchmarkBoard(b *testing.B) {
	db, err := OpenDB(filepath.Join(b.TempDir(), "state.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	r, err := Open(context.Background(), db)
	if err != nil {
		b.Fatal(err)
	}
	if err := r.AddBoard(context.Background(), "b1", map[string]string{"rack": "r1"}); err != nil {
		b.Fatal(err)
	}
	at := time.Now().UnixMilli()
	b.ReportAllocs()
	for b.Loop() {
		if board, ok := r.Board("b1"); !ok || len(board.At(at)) != 1 {
			b.Fatal("lost")
		}
	}
}

func TestTenancies(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	r, db := opened(t, dir)
	if err := r.AddBoard(ctx, "b1", map[string]string{"customer": "alder", "rack": "r1"}); err != nil {
		t.Fatal(err)
	}
	begin := must2(r.Board("b1")).Versions[0].From
	for i, change := range []map[string]string{{"rack": "r2"}, {"customer": "birch"}, {"customer": ""}, {"customer": "alder"}, {"rack": "r3"}} {
		if err := r.Relabel(ctx, "b1", change, begin+int64(i+1)*1000); err != nil {
			t.Fatal(err)
		}
	}
	reopened := again(t, dir, db)
	for _, r := range []*Registry{r, reopened} {
		for after, want := range map[int64]string{-5: "alder 0", 0: "alder 0", 1500: "alder 0", 2000: "birch 2000", 3000: " 3000", 3999: " 3000", 4000: "alder 4000", 9000: "alder 4000"} {
			c, since := must2(r.Board("b1")).Tenancy(begin + after)
			if got := fmt.Sprintf("%s %d", c, max(0, since-begin)); got != want {
				t.Errorf("at %d it is %q, want %q", after, got, want)
			}
		}
	}
	r, db = reopened, reopened.db
	wants(t, r.AddUser(ctx, "al", "long enough", Customer), "--customer")
	wants(t, r.AddCustomer(ctx, "al", "long enough", ""), "customer=NAME")
	wants(t, r.AddCustomer(ctx, "al", "long enough", "a\nb"), "printable")
	if _, err := r.CreateAPIToken(ctx, "x", Customer); err == nil {
		t.Error("a customer's token without a customer")
	}
	if err := r.AddCustomer(ctx, "al", "long enough", "alder"); err != nil {
		t.Fatal(err)
	}
	session, token := must(r.Login(ctx, "al", "long enough"))(t), must(r.CreateCustomerToken(ctx, "x", "birch"))(t)
	for _, r := range []*Registry{r, again(t, dir, db)} {
		for credential, want := range map[string]Identity{session: {"al", Customer, "alder"}, token: {"token x", Customer, "birch"}} {
			if got, err := r.Authenticate(credential); got != want || err != nil {
				t.Errorf("%v, %v, want %v", got, err, want)
			}
		}
	}
}

func must2(b *Board, ok bool) *Board {
	if !ok {
		panic("no such board")
	}
	return b
}
