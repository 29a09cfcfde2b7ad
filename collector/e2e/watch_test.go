package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bramble/alerting/alert"
	"bramble/dashboards"
)

// TestTwoCollectorsWatchEachOther: one beats at the other's heartbeat, dies, and is one page, across a restart of the
// one that noticed it; a run for endurance waits for the end of the alert, too.
func TestTwoCollectorsWatchEachOther(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("alertmanager.yml", fmt.Sprintf(crossingRoute, k.url))
	east := newServer(t, "127.0.0.1", "--config", write("east.yml", "alertmanager: alertmanager.yml\n"))

	// A test page takes the whole way and is noted.
	if code, body, err := east.request("POST", "/api/oncall/test", nil); err != nil || code != http.StatusOK {
		t.Fatalf("%d %s %v", code, body, err)
	}
	eventually(t, patience, func() error {
		var answer struct{ Tests []alert.PageTest }
		if _, body, err := east.request("GET", "/api/oncall/test", nil); err != nil || json.Unmarshal(body, &answer) != nil || len(answer.Tests) != 1 {
			return fmt.Errorf("%s %w", body, err)
		}
		if one := answer.Tests[0]; one.State != "delivered" || one.Receiver != "sink" || one.LatencyMs <= 0 || one.LatencyMs > patience.Milliseconds() {
			return fmt.Errorf("%+v", one)
		}
		return nil
	})

	token := east.do("", "token", "create", "--role", "heartbeat", "--name", "west")
	write("token", token+"\n")
	west := newServer(t, "127.0.0.1", "--config", write("west.yml",
		fmt.Sprintf("watchdog: {url: %q, token_file: token, every: 10s}\n", east.url()+"api/heartbeats/west")))
	heard := func() (dashboards.Heartbeat, error) {
		var answer struct{ Heartbeats []dashboards.Heartbeat }
		_, body, err := east.request("GET", "/api/heartbeats", nil)
		if err != nil || json.Unmarshal(body, &answer) != nil || len(answer.Heartbeats) != 1 {
			return dashboards.Heartbeat{}, fmt.Errorf("%s %w", body, err)
		}
		return answer.Heartbeats[0], nil
	}
	eventually(t, patience, func() error {
		h, err := heard()
		if err == nil && (h.Name != "west" || h.By != "token west" || h.WithinSeconds != 30 || h.Overdue) {
			err = fmt.Errorf("%+v", h)
		}
		return err
	})
	eventually(t, patience, func() error {
		_, body, err := west.request("GET", "/api/heartbeats", nil)
		if err != nil || !strings.Contains(string(body), `"sentAt"`) || strings.Contains(string(body), `"error"`) {
			return fmt.Errorf("%s %w", body, err)
		}
		return nil
	})
	if log := west.errs.String(); strings.Contains(log, "level=ERROR") {
		t.Errorf("a collector that beats and nothing else logs errors: %s", log)
	}
	stranger := *east
	stranger.bearer = token
	if code, body, err := stranger.request("GET", "/api/heartbeats", nil); err != nil || code != http.StatusForbidden {
		t.Errorf("the token reads: %d %s %v", code, body, err)
	}
	if code, body, err := stranger.request("GET", "/", nil); err != nil || strings.Contains(string(body), "Fleet") {
		t.Errorf("the token sees pages: %d %v", code, err)
	}

	before := len(k.keys(""))
	west.kill()
	eventually(t, 2*patience, func() error {
		if n := len(k.keys("")) - before; n != 1 {
			return fmt.Errorf("%d pages for the heartbeat", n)
		}
		return nil
	})
	east.kill()
	east.start()
	west.start()
	eventually(t, patience, func() error {
		h, err := heard()
		if err == nil && h.Overdue {
			err = errors.New("still overdue")
		}
		return err
	})
	if enduring() { // keep_firing_for is a minute
		eventually(t, 2*patience, func() error {
			code, body, err := east.request("GET", "/api/v1/alerts", nil)
			if err != nil || code != http.StatusOK || strings.Contains(string(body), "HeartbeatMissed") {
				return fmt.Errorf("%s %w", body, err)
			}
			return nil
		})
	}
	if n := len(k.keys("")) - before; n != 1 {
		t.Errorf("%d pages for the heartbeat in the end", n)
	}
}

// TestMaintenanceOfARunningCollector is started by the command line, survives kill -9, and is ended by it.
func TestMaintenanceOfARunningCollector(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	s.do("", "board", "add", "r1-a-01", "--label", "rack=r1")
	s.do("", "board", "add", "r1-a-02", "--label", "rack=r1")
	if a := s.try("", "maintenance", "start", "--rack", "r1", "--for", "2h"); a.code != 1 || !strings.Contains(a.errs, "--confirm 2") {
		t.Errorf("exit %d: %s", a.code, a.errs)
	}
	if n := s.do("", "maintenance", "start", "--rack", "r1", "--for", "2h", "--confirm", "2", "--comment", "new PSU"); n != "1" {
		t.Errorf("number %q", n)
	}
	s.kill()
	s.start()
	var off alert.OffReport
	if code, body, err := s.request("GET", "/api/oncall/off", nil); err != nil || code != http.StatusOK || json.Unmarshal(body, &off) != nil {
		t.Fatalf("%d %s %v", code, body, err)
	}
	found := false
	for _, o := range off.Items {
		found = found || o.Kind == alert.OffMaintenance && strings.Contains(o.Why, "new PSU") && len(o.Boards) == 2
	}
	if !found {
		t.Errorf("after kill -9: %+v", off)
	}
	if list := s.do("", "maintenance", "list"); !strings.Contains(list, "running") {
		t.Errorf("list: %s", list)
	}
	s.do("", "maintenance", "end", "1")
	if list := s.do("", "maintenance", "list"); !strings.Contains(list, "returning until") {
		t.Errorf("list: %s", list)
	}
}
