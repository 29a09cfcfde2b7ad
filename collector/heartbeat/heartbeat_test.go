package heartbeat

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	_ "modernc.org/sqlite"

	"bramble/storage/statedb"
)

func openDB(t *testing.T, dir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "state.db")+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := statedb.Ready(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return db
}

func open(t *testing.T, db *sql.DB) *Store {
	t.Helper()
	b, err := Open(t.Context(), db, func(board string) bool { return board == "r1-01" })
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *Store) must(t *testing.T, name string, ping Ping) Heartbeat {
	t.Helper()
	h, err := b.Ping(t.Context(), name, ping)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func overdue(b *Store) (names []string) {
	for _, h := range b.List() {
		if h.Overdue {
			names = append(names, h.Name)
		}
	}
	return names
}

func want(t *testing.T, b *Store, when string, names ...string) {
	t.Helper()
	if got := overdue(b); fmt.Sprint(got) != fmt.Sprint(names) {
		t.Errorf("%s: overdue are %v, want %v", when, got, names)
	}
}

// TestDeadlines runs on fake time: pings, deadlines, a collector that was away, and one that was away for longer than a
// deadline.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openDB(t, t.TempDir())
		b := open(t, db)
		b.must(t, "peer", Ping{Within: 3 * time.Minute, By: "token peer"})
		b.must(t, "nightly", Ping{})
		b.must(t, "dead", Ping{Within: time.Minute, Board: "r1-01"})
		want(t, b, "at first")
		time.Sleep(2 * time.Minute)
		want(t, b, "after 2 min", "dead")
		if h := b.must(t, "peer", Ping{}); h.WithinSeconds != 180 || h.Deadline != h.LastAt+180_000 {
			t.Errorf("a beat without a deadline keeps it: %+v", h)
		}
		if err := b.alive(t.Context(), time.Now().UnixMilli()); err != nil {
			t.Fatal(err)
		}

		time.Sleep(time.Hour) // nobody is at home
		b = open(t, db)
		want(t, b, "after an hour away", "dead")
		time.Sleep(179 * time.Second)
		want(t, b, "what the peer had left, it has", "dead")
		time.Sleep(2 * time.Second)
		want(t, b, "then it is overdue", "dead", "peer")
		if err := b.alive(t.Context(), time.Now().UnixMilli()); err != nil {
			t.Fatal(err)
		}

		time.Sleep(time.Second)
		b = open(t, db)
		want(t, b, "what was overdue stays so", "dead", "peer")
		b.must(t, "peer", Ping{})
		want(t, b, "the peer is back", "dead")
		if err := b.Remove(t.Context(), "dead"); err != nil {
			t.Fatal(err)
		}
		want(t, b, "removed")
		time.Sleep(24*time.Hour - 10*time.Minute)
		want(t, b, "a day later", "peer")
		time.Sleep(2 * time.Hour)
		want(t, b, "the nightly job has not come for 25 h that the collector was there", "nightly", "peer")
	})
}

// TestPausedProcess wants a process that was stopped to add its pause to the deadlines, and no more.
func TestPausedProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, openDB(t, t.TempDir()))
		b.must(t, "peer", Ping{Within: 2 * time.Minute})
		time.Sleep(50 * time.Second)
		if err := b.alive(t.Context(), b.now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute) // stopped
		if err := b.excuse(t.Context(), b.now()); err != nil {
			t.Fatal(err)
		}
		want(t, b, "right after the pause")
		time.Sleep(71 * time.Second)
		want(t, b, "what was left has passed", "peer")
	})
}

// TestRestartsDoNotHide: a collector that restarts every few seconds excuses no more than it was away, and a minute.
func TestRestartsDoNotHide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openDB(t, t.TempDir())
		open(t, db).must(t, "peer", Ping{Within: time.Minute})
		for range 10 {
			time.Sleep(20 * time.Second)
			if err := open(t, db).alive(t.Context(), time.Now().UnixMilli()); err != nil {
				t.Fatal(err)
			}
		}
		b := open(t, db)
		time.Sleep(62 * time.Second)
		want(t, b, "in the end", "peer")
	})
}

func TestBadPings(t *testing.T) {
	b := open(t, openDB(t, t.TempDir()))
	f := func(name string, ping Ping, want string) {
		t.Helper()
		if _, err := b.Ping(t.Context(), name, ping); !errors.Is(err, ErrBad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s %+v: %v, want %q", name, ping, err, want)
		}
	}
	f("Peer", Ping{}, "use a-z")
	f(strings.Repeat("a", 64), Ping{}, "63 characters")
	f("", Ping{}, "use a-z")
	f("a", Ping{Within: time.Second}, "is not between 30s and 62d")
	f("a", Ping{Within: 63 * 24 * time.Hour}, "is not between")
	f("a", Ping{Message: strings.Repeat("x", 201)}, "longer than 200")
	f("a", Ping{Board: "r9"}, `no board "r9"`)
	if err := b.Remove(t.Context(), "a"); !errors.Is(err, ErrUnknown) {
		t.Errorf("remove: %v", err)
	}
	for i := range MaxNames {
		b.all[fmt.Sprint(i)] = &Heartbeat{}
	}
	f("one-more", Ping{}, "there are 1000 already")
}

func TestMetrics(t *testing.T) {
	b := open(t, openDB(t, t.TempDir()))
	b.must(t, "peer", Ping{Within: time.Hour, Board: "r1-01"})
	b.must(t, "gone", Ping{})
	if err := b.Remove(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(b)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != "bramble_heartbeat_age_seconds" {
				got = append(got, fmt.Sprint(f.GetName(), m.GetLabel()[0].GetValue(), m.GetLabel()[1].GetValue(), m.GetGauge().GetValue()))
			}
		}
	}
	want := []string{"bramble_heartbeat_overduegone0", "bramble_heartbeat_overduer1-01peer0", "bramble_heartbeat_within_secondsr1-01peer3600"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}
