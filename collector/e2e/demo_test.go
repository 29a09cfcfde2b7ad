package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDemo watches the demo as a newcomer does: history at once, then an
// under-voltage and its page. In a run for endurance one sees the other faults
// of the first two minutes, too: a throttled board, and a switch that goes and
// comes back.
func TestDemo(t *testing.T) {
	t.Parallel()
	d := newDemo(t, "--boards", "24")
	eventually(t, patience, d.boardsUp(24, 24))
	d.history()
	began := time.Now()
	d.sees("an under-voltage", began, `count(max_over_time(pi_throttled{reason="under_voltage"}[2m]) == 1)`)
	faults := []string{"UnderVoltage"}
	if enduring() {
		faults = append(faults, "BoardSilent", "SocHot")
		d.sees("a silent board", began, `count(last_over_time(pi_board_up[2m]) == 0)`)
		d.sees("a board throttled by its heat", began, `count((pi_throttled{reason="throttled"} == 1) unless on(board) (max_over_time(pi_throttled{reason="under_voltage"}[2m]) == 1))`)
		eventually(t, patience, d.boardsUp(24, 24)) // the switch is back
	}
	d.acknowledges(faults)
	if code := d.stop(t, patience); code != 0 {
		t.Errorf("exit %d: %s", code, d.errs)
	}
	if left, err := os.ReadDir(d.tmp); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestDemoStartsBesideOtherBoards starts the demo in a data directory that holds a real board beside the simulated
// ones, more simulated ones than this demo has, and one of its own that was retired.
func TestDemoStartsBesideOtherBoards(t *testing.T) {
	t.Parallel()
	s := &server{t: t, dir: t.TempDir()}
	for _, name := range []string{"real", "r1-a-01", "r1-b-01"} {
		s.do("", "board", "add", name)
	}
	s.do("", "board", "retire", "r1-a-01")
	d := newDemo(t, "--boards", "4", "--data-dir", s.dir)
	eventually(t, patience, d.boardsUp(5, 3)) // without the retired one
	for name, want := range map[string]bool{"real": false, "r1-a-01": false, "r1-b-01": false, "r1-a-02": true, "r1-a-04": true} {
		found, err := d.query(fmt.Sprintf(`count_over_time(pi_soc_temperature_celsius{board=%q}[1d]) > 1000`, name))
		if err != nil || (len(found) > 0) != want {
			t.Errorf("a day of temperatures of %s: %v, %v; want %v", name, found, err, want)
		}
	}
	if code := d.stop(t, patience); code != 0 {
		t.Errorf("exit %d: %s", code, d.errs)
	}
}

// demoRun is a `collector demo` with a directory for temporary files of its own.
type demoRun struct {
	*server
	tmp string
}

func newDemo(t testing.TB, flags ...string) *demoRun {
	t.Helper()
	d := &demoRun{server: &server{t: t}, tmp: t.TempDir()}
	p := prepare(append([]string{program(t, "collector"), "demo", "--http", "127.0.0.1:0", "--nats", "127.0.0.1:0"}, flags...)...)
	p.cmd.Env = append(os.Environ(), "TMPDIR="+d.tmp)
	p.begin(t)
	d.process = p
	d.http = strings.Trim(strings.TrimPrefix(p.says(t, p.out, "ready "), "http://"), "/")
	return d
}

// boardsUp wants so many boards, and so many of them up.
func (d *demoRun) boardsUp(boards, up int) func() error {
	return func() error {
		var a struct {
			Boards []struct {
				Up *bool `json:"up"`
			} `json:"boards"`
		}
		if err := d.json("api/boards", &a); err != nil {
			return err
		}
		n := 0
		for _, b := range a.Boards {
			if b.Up != nil && *b.Up {
				n++
			}
		}
		if len(a.Boards) != boards || n != up {
			return fmt.Errorf("%d boards, %d of them up", len(a.Boards), n)
		}
		return nil
	}
}

// history wants 24 hours of temperatures of every board, without a gap of an hour.
func (d *demoRun) history() {
	d.t.Helper()
	now := time.Now().Truncate(time.Second)
	found, err := d.queryRange(`count(count_over_time(pi_soc_temperature_celsius[1h]) > 10)`, now.Add(-23*time.Hour), now, time.Hour)
	if err != nil || len(found) != 1 || len(found[0]) != 24 {
		d.t.Fatalf("history: %v, %v", found, err)
	}
	for at, boards := range found[0] {
		if boards != 24 {
			d.t.Errorf("in the hour before %v %v boards have a history", time.UnixMilli(at), boards)
		}
	}
}

// sees waits until a query has an answer. The faults come within two minutes; a longer wait is the machine's.
func (d *demoRun) sees(what string, began time.Time, query string) {
	d.t.Helper()
	eventually(d.t, time.Until(began.Add(2*time.Minute+patience)), func() error {
		now := time.Now()
		found, err := d.queryRange(query, now, now, time.Second)
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("there is no sign of %s", what)
		}
		return err
	})
	d.t.Logf("%s after %v", what, time.Since(began).Round(time.Second))
}

// acknowledges wants a page of each fault in the inbox, one for the switch, and
// acknowledges the first one's incident.
func (d *demoRun) acknowledges(faults []string) {
	d.t.Helper()
	var id string
	eventually(d.t, patience, func() error {
		var a struct {
			Inbox []struct{ ID, Body, IncidentID string }
		}
		if err := d.json("api/demo", &a); err != nil {
			return err
		}
		names := map[string]string{} // by incident: one that nobody acknowledges is paged again
		for _, page := range a.Inbox {
			var body struct {
				Status       string
				CommonLabels map[string]string
			}
			if err := json.Unmarshal([]byte(page.Body), &body); err != nil {
				return err
			}
			if body.Status == "firing" { // the first ones may be over by now
				names[page.IncidentID] = body.CommonLabels["alertname"]
			}
			if page.IncidentID != "" {
				id = page.IncidentID
			}
		}
		for _, name := range faults {
			if !slices.Contains(slices.Collect(maps.Values(names)), name) {
				return fmt.Errorf("no page %s in %v", name, names)
			}
		}
		if n := len(names); n > 4 {
			return fmt.Errorf("%d incidents are paged for three faults: %v", n, names)
		}
		if id == "" {
			return errors.New("no page names its incident")
		}
		return nil
	})
	code, b, err := d.request(http.MethodPost, "api/incidents/"+id+"/ack", []byte(`{"comment":"mine"}`))
	if err != nil || code != http.StatusOK {
		d.t.Fatalf("acknowledge: %d %s %v", code, b, err)
	}
	var list struct {
		Incidents []struct{ ID, State, AcknowledgedBy, Comment string }
	}
	if err := d.json("api/incidents", &list); err != nil {
		d.t.Fatal(err)
	}
	for _, in := range list.Incidents {
		if in.ID == id && in.AcknowledgedBy != "" && in.Comment == "mine" {
			return
		}
	}
	d.t.Errorf("incident %s is not acknowledged: %+v", id, list.Incidents)
}
