package pager

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"bramble/alerting/database"
)

// TestPruneWhileRunning: incidents, pages with the rows of their persons, and maintenances that grow too old are dropped without a restart; younger ones
// stay.
func TestPruneWhileRunning(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		db := openDB(t, dir)
		p, err := Open(Options{DB: db})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		if _, err := db.Exec(`INSERT INTO page (id, incident, receiver, integration, idx, group_key, reason, payload, created_at, reading_at, state, next_at) VALUES ('bundle','','r','i',0,'',1,'{}',?,1,'delivered',0);
			INSERT INTO page_to (page, person, kind, sent_at) VALUES ('bundle','ada','bundle',1)`, now.Add(12*time.Hour-database.Keep).UnixMilli()); err != nil {
			t.Fatal(err)
		}
		for id, resolved := range map[string]time.Time{"old": now.Add(12*time.Hour - database.Keep), "young": now.Add(-time.Hour)} {
			at := resolved.UnixMilli()
			for _, q := range []string{
				fmt.Sprintf(`INSERT INTO incident (id, group_key, receiver, title, severity, started_at, opened_at, changed_at, resolved_at, alerts) VALUES ('%s','g','r','t','',1,1,%d,%d,'[]')`, id, now.UnixMilli(), at),
				fmt.Sprintf(`INSERT INTO page (id, incident, receiver, integration, idx, group_key, reason, payload, created_at, reading_at, state, next_at) VALUES ('%[1]s-1','%[1]s','r','i',0,'g',1,'{}',1,1,'delivered',0)`, id),
				fmt.Sprintf(`INSERT INTO page_to (page, person, kind, sent_at) VALUES ('%s-1','ada','page',1)`, id),
				fmt.Sprintf(`INSERT INTO incident_event (incident, at, kind, who, text) VALUES ('%s',1,'opened','','t')`, id),
				fmt.Sprintf(`INSERT INTO maintenance (matchers, starts_at, ends_at, return_by, comment, created_by, created_at, closed_at) VALUES ('["a=\"%s\""]',1,1,1,'','ada',1,%d)`, id, at),
			} {
				if _, err := db.Exec(q); err != nil {
					t.Fatal(err)
				}
			}
		}
		left := func() (out string) {
			for _, table := range []string{"incident", "page", "page_to", "incident_event", "maintenance"} {
				var n int
				if err := db.QueryRow(`SELECT count(*) FROM ` + table).Scan(&n); err != nil {
					t.Fatal(err)
				}
				out += fmt.Sprint(n, " ")
			}
			return out
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); p.tidy(ctx) }()
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		if got := left(); got != "2 3 3 2 2 " {
			t.Errorf("before a day is over %s are left, want all", got)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if got := left(); got != "1 1 1 1 1 " {
			t.Errorf("%s rows are left, want 1 of each table", got)
		}
		cancel()
		<-ended
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		db.Close()
	})
}
