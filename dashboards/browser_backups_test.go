package dashboards

import (
	"testing"
	"time"
)

// The footer says how the backups stand.
func TestBrowserBackups(t *testing.T) {
	now := time.Now().UnixMilli()
	good := Backup{Name: "2026-11-24T030000.000Z", Taken: now - 5*3600_000, Rows: 25_000_000, Series: 2500, Boards: 24, TestedAt: now - 5*3600_000, Good: true, Result: "good"}
	old := good
	old.Taken = now - 50*3600_000
	f := func(state Backups, wanted, detail string, bad bool) {
		t.Helper()
		_, web := start(t, Options{Open: true, Series: noHistory, Backups: func() Backups { return state }})
		b := openTab(t, web.URL)
		b.open("/incidents")
		b.text("#backups:not([hidden]) summary", wanted)
		b.text("#backups .reasons", detail)
		is := `document.querySelector("#backups summary").classList.contains("some")`
		if !bad {
			is = "!" + is
		}
		b.until(is, is)
		b.clean()
	}
	f(Backups{Target: "/mnt", EverySeconds: 86400, Kept: []Backup{good}}, "Backup 5 h 00 m old, restored in a test", "25\u2009000\u2009000 rows", false)
	f(Backups{Target: "/mnt", EverySeconds: 86400, Kept: []Backup{old}}, "Backup 2 d 2 h old", "one every 1 d 0 h", true)
	f(Backups{Target: "/mnt", EverySeconds: 86400, Error: "disk full", Kept: []Backup{good}}, "Last backup failed", "disk full", true)
	f(Backups{Target: "/mnt", Kept: []Backup{}}, "No backups configured", "none scheduled", false)
	f(Backups{Target: "/mnt", EverySeconds: 86400, Running: true, Kept: []Backup{}}, "Backup running", "0 in /mnt", false)
}
