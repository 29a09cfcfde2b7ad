package digest

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	_ "modernc.org/sqlite"

	"bramble/collector/schedule"
	"bramble/storage/statedb"
)

// post is where digests go; it may refuse.
type post struct {
	sent   []Mail
	refuse error
	from   []time.Time
}

func (p *post) open(t *testing.T, db *sql.DB, at, zone string) *Keeper {
	t.Helper()
	s, err := schedule.Parse(at, zone)
	if err != nil {
		t.Fatal(err)
	}
	k := New(Options{DB: db, Schedule: s, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Report: func(_ context.Context, from, to time.Time) (Report, error) {
			p.from = append(p.from, from, to)
			return Report{From: from, To: to}, nil
		},
		Send: func(_ context.Context, m Mail) error {
			if p.refuse == nil {
				p.sent = append(p.sent, m)
			}
			return p.refuse
		}})
	return k
}

// during runs a keeper for a time.
func during(t *testing.T, k *Keeper, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := k.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

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

// TestOnceADay runs on fake time, which begins at midnight UTC: restarts between all steps neither lose nor double one.
func TestOnceADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, p := openDB(t, t.TempDir()), &post{}
		begin := time.Now()
		k := p.open(t, db, "08:00", "")
		during(t, k, 32*time.Hour+time.Minute) // to 08:01 of the second day
		if len(p.sent) != 2 || !p.from[0].Equal(begin.Add(-16*time.Hour)) || !p.from[1].Equal(begin.Add(8*time.Hour)) {
			t.Fatalf("sent %d, about %v", len(p.sent), p.from)
		}
		for range 3 {
			during(t, p.open(t, db, "08:00", ""), time.Minute)
		}
		if len(p.sent) != 2 {
			t.Errorf("restarts make it %d", len(p.sent))
		}
		// Written, and killed before it is sent.
		time.Sleep(time.Until(begin.Add(56*time.Hour + time.Second)))
		if err := k.write(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		during(t, p.open(t, db, "08:00", ""), time.Minute)
		if len(p.sent) != 3 {
			t.Errorf("a digest that was written and not sent: %d", len(p.sent))
		}
		// The smarthost refuses for an hour; the tries become rare, and the mail is the same.
		p.refuse = errors.New("450 come back later")
		time.Sleep(time.Until(begin.Add(80*time.Hour - time.Minute)))
		during(t, p.open(t, db, "08:00", ""), time.Hour)
		var attempts int
		var id, answer string
		if err := db.QueryRow(`SELECT attempts, id, answer FROM digest WHERE state = 'waiting'`).Scan(&attempts, &id, &answer); err != nil {
			t.Fatal(err)
		}
		if attempts < 5 || attempts > 8 || answer != "450 come back later" {
			t.Errorf("%d tries in an hour, %q", attempts, answer)
		}
		p.refuse = nil
		during(t, p.open(t, db, "08:00", ""), time.Hour)
		if len(p.sent) != 4 || p.sent[3].ID != id {
			t.Errorf("after the smarthost is back: %d", len(p.sent))
		}
		// Away over a digest and most of the day: the next is near.
		time.Sleep(time.Until(begin.Add(125 * time.Hour)))
		during(t, p.open(t, db, "08:00", ""), time.Hour)
		if len(p.sent) != 4 {
			t.Errorf("21 h late: %d", len(p.sent))
		}
	})
}

func TestWords(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	to := time.Date(2026, 11, 24, 8, 0, 0, 0, zone)
	m, err := Report{
		From: to.AddDate(0, 0, -1), To: to, Link: "https://bramble.example.org/", Version: "v0.3.0", Boards: 96, Reporting: 92, Silent: 3, Stopped: 1,
		Rules: []Rule{{"SocHot", 4, 2, 5}}, Late: []Line{{What: "SocHot", Text: "r1-a-03 (84.2)", Bad: true}},
		Off:      []Line{{What: `48 boards, rack="r7"`, Text: "silenced <script>", Bad: true}},
		Outdated: []Line{{What: "v0.2.1", Text: "12 boards"}}, Newest: "v0.3.0",
	}.mail("<1@x>")
	if err != nil {
		t.Fatal(err)
	}
	if want := "Bramble, Tue 24 Nov: 4 pages, 3 silent boards, 2 things to look at"; m.Subject != want {
		t.Errorf("subject %q, want %q", m.Subject, want)
	}
	for _, want := range []string{
		"From Mon 23 Nov 08:00 CET to Tue 24 Nov 08:00 CET\n", "96 boards, 92 report, 3 silent, 1 stopped.\n", "  - SocHot: 4 pages, 2 incidents on 5 boards\n",
		"were off:\n  ! SocHot: r1-a-03 (84.2)\n", "  ! 48 boards, rack=\"r7\": silenced <script>\n", "Backups: none are made\n", "Sensors older than v0.3.0:\n  - v0.2.1: 12 boards\n",
	} {
		if !strings.Contains(m.Text, want) {
			t.Errorf("the text lacks %q:\n%s", want, m.Text)
		}
	}
	for _, want := range []string{"silenced &lt;script&gt;", "<b>SocHot</b>", "None are made.", `width=device-width`, "12 boards"} {
		if !strings.Contains(m.HTML, want) {
			t.Errorf("the HTML lacks %q", want)
		}
	}
	if strings.Contains(m.HTML, "<script>") {
		t.Error("text becomes markup")
	}
}
