package ingest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"bramble/alerting/alert"
	"bramble/pisensor/report"
)

// TestSilenceSurvivesARestart: a silent board stays so, with its last report and the announcement; the alert carries the
// reasons.
func TestSilenceSurvivesARestart(t *testing.T) {
	dir, s := t.TempDir(), startNATS(t)
	c := start(t, dir, s)
	for _, name := range []string{"pi-1", "pi-2", "pi-3"} {
		c.addBoard(name, map[string]string{"rack": "r1", "switch": "r1-a"})
	}
	now := time.Now()
	c.look(now)
	for _, name := range []string{"pi-1", "pi-2", "pi-3"} {
		r := hot(1, now, 50)
		r.Due = 10_000
		c.publish(name, r)
		c.ack()
	}
	if err := c.Expect(t.Context(), Expectation{Board: "pi-1", What: "reinstall", By: "panel", At: now, Until: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	for d := time.Second; d < 30*time.Second; d += 4 * time.Second {
		c.look(now.Add(d))
	}
	c.back("pi-3", now.Add(29*time.Second))
	c.look(now.Add(33 * time.Second))
	c.look(now.Add(37 * time.Second))
	c.committed()
	var fired []alert.Transition
	c.mu.Lock()
	for _, tr := range c.delivered {
		if tr.Labels["alertname"] == "Silent" {
			fired = append(fired, tr)
		}
	}
	c.mu.Unlock()
	if len(fired) != 2 {
		t.Fatalf("%d boards fell silent: %v", len(fired), fired)
	}
	for _, wanted := range []string{"Its last report came at ", "the next was due within 10s", "1 of the 2 other boards of switch r1-a report.", "A reinstall was announced by panel"} {
		if reason := fired[0].Annotations[alert.ReasonNote]; !strings.Contains(reason, wanted) {
			t.Errorf("reason %q does not say %q", reason, wanted)
		}
	}
	if at, err := time.Parse(alert.NoteTime, fired[0].Annotations[alert.LastReportNote]); err != nil || at.Sub(now).Abs() > patience {
		t.Errorf("last report %v, %v", at, err)
	}
	heard := c.Status()["pi-1"].LastReport
	for _, checkpoint := range []bool{false, true} {
		if checkpoint {
			var err error
			if doErr := c.Do(t.Context(), func() { err = c.checkpoint() }); doErr != nil || err != nil {
				t.Fatal(doErr, err)
			}
		}
		c.stop()
		c = start(t, dir, s)
		for name, want := range map[string]string{"pi-1": "silent", "pi-2": "silent", "pi-3": "up"} {
			if got := c.Status()[name].State; got != want {
				t.Errorf("checkpoint %v: %s is %q after a restart, want %q", checkpoint, name, got, want)
			}
		}
		if got := c.Status()["pi-1"].LastReport; got.UnixMilli() != heard.UnixMilli() {
			t.Errorf("checkpoint %v: last report %v became %v", checkpoint, heard, got)
		}
		if e := c.Ingest.boards["pi-1"].expected; e == nil || e.What != "reinstall" || e.By != "panel" {
			t.Errorf("checkpoint %v: announced %+v", checkpoint, e)
		}
	}
	c.look(time.Now())
	c.back("pi-1", time.Now())
	if got := c.Status()["pi-1"].State; got != "up" {
		t.Errorf("pi-1 is %q", got)
	}
}

// TestStoppedSensor: the pages show a sensor that ended properly, after a restart too; the reasons of others' silence
// name it; and a silent board that comes back to say goodbye is silent no more.
func TestStoppedSensor(t *testing.T) {
	dir, s := t.TempDir(), startNATS(t)
	c := start(t, dir, s)
	now := time.Now()
	for _, name := range []string{"pi-1", "pi-2", "pi-3"} {
		c.addBoard(name, map[string]string{"rack": "r1", "switch": "r1-a"})
	}
	c.look(now)
	bye := func(name string, at time.Time) {
		t.Helper()
		var err error
		if doErr := c.Do(t.Context(), func() { err = c.presence.heard(c.Ingest.board(name), &report.Report{Due: 10_000, Goodbye: true}, at) }); doErr != nil || err != nil {
			t.Fatal(doErr, err)
		}
	}
	stopped := func(name string) (n int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, l := range c.live {
			if strings.HasPrefix(l, name+" ") && strings.HasSuffix(l, " pi_board_up NaN") {
				n++
			}
		}
		return n
	}
	for _, name := range []string{"pi-1", "pi-2", "pi-3"} {
		r := hot(1, now, 50)
		r.Due, r.Goodbye = 10_000, name == "pi-3"
		c.publish(name, r)
		c.ack()
	}
	if n := stopped("pi-3"); n != 1 {
		t.Fatalf("the pages heard %d times that pi-3 stopped", n)
	}
	for d := time.Second; d < 46*time.Second; d += 4 * time.Second {
		if d == 29*time.Second {
			c.back("pi-2", now.Add(d))
		}
		c.look(now.Add(d))
	}
	c.committed()
	c.mu.Lock()
	last := c.delivered[len(c.delivered)-1]
	c.mu.Unlock()
	if reason, want := last.Annotations[alert.ReasonNote], "The other board of switch r1-a reports. The sensor of one more was stopped."; !strings.Contains(reason, want) {
		t.Errorf("reason %q does not say %q", reason, want)
	}
	bye("pi-1", now.Add(50*time.Second))
	c.committed()
	if got := c.transitions("Silent"); !slices.Equal(got, []string{"firing", "cooling"}) {
		t.Errorf("a silent board said goodbye: delivered %v", got)
	}
	heard := c.Status()["pi-3"].LastReport
	c.stop()
	c = start(t, dir, s)
	c.look(time.Now())
	if got := c.Status()["pi-3"]; got.State != "stopped" || got.LastReport.UnixMilli() != heard.UnixMilli() || stopped("pi-3") != 1 {
		t.Errorf("after a restart pi-3 is %q, last heard %v, want stopped at %v; the pages were told %d times", got.State, got.LastReport, heard, stopped("pi-3"))
	}
	if got := c.Status()["pi-1"].State; got != "stopped" { // its goodbye carried no reading
		t.Errorf("after a restart pi-1 is %q, want stopped", got)
	}
}

func TestExpectationIsChecked(t *testing.T) {
	c := start(t, t.TempDir(), startNATS(t))
	c.addBoard("pi-1", nil)
	now := time.Now()
	f := func(board, what string, within time.Duration, wanted string) {
		t.Helper()
		err := c.Expect(t.Context(), Expectation{Board: board, What: what, By: "panel", At: now, Until: now.Add(within)})
		if err == nil || !strings.Contains(err.Error(), wanted) {
			t.Errorf("%s %s %v: %v, want %q", board, what, within, err, wanted)
		}
	}
	f("pi-1", "party", time.Hour, "want one of reboot, reinstall, shutdown")
	f("pi-1", "reboot", 0, "more than 0")
	f("pi-1", "reboot", 25*time.Hour, "at most 24h")
	f("nobody", "reboot", time.Hour, "not found")
}
