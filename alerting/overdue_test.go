package alerting

import (
	"testing"
	"time"
)

// TestOverdue: what a stopped loop leaves behind is overdue; what is tried again is not.
func TestOverdue(t *testing.T) {
	db := openDB(t, t.TempDir())
	p, err := OpenPager(PagerOptions{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	check := func(want Overdue) {
		t.Helper()
		got, err := p.Overdue(t.Context(), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		got.Since = time.Time{}
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	check(Overdue{})
	now := time.Now().UnixMilli()
	for _, late := range []int64{60_000, 5_000, -60_000} {
		if _, err := db.ExecContext(t.Context(), `INSERT INTO escalation_step (incident, kind, delay, due_at) VALUES ('i', 'step', 0, ?)`, now-late); err != nil {
			t.Fatal(err)
		}
	}
	check(Overdue{Steps: 1})
	p.mail.add([]*letter{
		{id: "a", receiver: "r", groupKey: "1", nextAt: now - 60_000},
		{id: "b", receiver: "r", groupKey: "1", nextAt: now - 60_000}, // behind the first
		{id: "c", receiver: "r", groupKey: "2", nextAt: now + 60_000}, // tried again later
		{id: "d", receiver: "r", groupKey: "3", nextAt: now - 60_000, flying: true},
	})
	check(Overdue{Steps: 1, Pages: 1})
}
