package dashboards

import (
	"sync/atomic"
	"testing"
	"time"
)

// The footer says how the backups stand.
func TestBrowserBackups(t *testing.T) {
	now := time.Now().UnixMilli()
	good := Backup{Name: "2026-11-24T030000.000Z", Taken: now - 5*3600_000, Rows: 25_000_000, Series: 2500, Boards: 24, TestedAt: now - 5*3600_000, Good: true, Result: "good"}
	old := good
	old.Taken = now - 50*3600_000
	var state atomic.Pointer[Backups]
	_, web := start(t, parts{Open: true, Series: noHistory, Backups: func() Backups { return *state.Load() }})
	b := openTab(t, web.URL)
	f := func(is Backups, wanted, detail string, bad bool) {
		t.Helper()
		state.Store(&is)
		b.open("/incidents")
		b.text("#backups:not([hidden]) summary", wanted)
		b.text("#backups .reasons", detail)
		marked := `document.querySelector("#backups summary").classList.contains("some")`
		if !bad {
			marked = "!" + marked
		}
		b.until(marked, marked)
	}
	f(Backups{Target: "/mnt", EverySeconds: 86400, Kept: []Backup{good}}, "Backup 5 h 00 m old, restored in a test", "25\u2009000\u2009000 rows", false)
	f(Backups{Target: "/mnt", EverySeconds: 86400, Kept: []Backup{old}}, "Backup 2 d 2 h old", "one every 1 d 0 h", true)
	f(Backups{Target: "/mnt", EverySeconds: 86400, Error: "disk full", Kept: []Backup{good}}, "Last backup failed", "disk full", true)
	f(Backups{Target: "/mnt", Kept: []Backup{}}, "No backups configured", "none scheduled", false)
	f(Backups{Target: "/mnt", EverySeconds: 86400, Running: true, Kept: []Backup{}}, "Backup running", "0 in /mnt", false)
	b.clean()
}
