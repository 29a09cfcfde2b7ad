package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bramble/alerting/incident"
	"bramble/dashboards"
)

const onCallFile = `people:
  - {name: ada, ack_notice: ada, channels: [{receiver: ada}]}
  - {name: jonas, channels: [{receiver: jonas}]}
rotas:
  - {name: first, zone: Europe/Berlin, layers: [{people: [ada], start: 2026-01-05, handover: "09:00", rotate: weekly}]}
policies:
  - {name: default, receivers: [oncall], steps: [{notify: [first], wait: 2s}, {notify: [jonas], wait: 2s}]}
`

// paths is a receiver that notes where it was called, and with which status.
type paths struct {
	mu  sync.Mutex
	got []string
}

func (p *paths) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var body struct{ Status string }
	b, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(b, &body) // a message that is no page has no status
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, r.URL.Path+" "+body.Status)
}

func (p *paths) count(what string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.got {
		if g == what {
			n++
		}
	}
	return n
}

func (p *paths) await(t *testing.T, what string, n int) {
	t.Helper()
	eventually(t, patience, func() error {
		if p.count(what) < n {
			return fmt.Errorf("%q came %d times, want %d", what, p.count(what), n)
		}
		return nil
	})
}

// TestOnCall: from an alert to the second person, an acknowledgement by API, the time line, an override, and a broken file
// at a reload, with the real program.
func TestOnCall(t *testing.T) {
	t.Parallel()
	k := &paths{}
	sink := httptest.NewServer(k)
	t.Cleanup(sink.Close)
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("alertmanager.yml", fmt.Sprintf(`route: {receiver: oncall, group_by: [alertname], group_wait: 0s}
receivers: [{name: oncall}, {name: ada, webhook_configs: [{url: "%[1]s/ada"}]}, {name: jonas, webhook_configs: [{url: "%[1]s/jonas"}]}]
`, sink.URL))
	write("oncall.yml", onCallFile)
	write("collector.yml", "alertmanager: alertmanager.yml\noncall: oncall.yml\n")
	s := newServer(t, "127.0.0.1", "--config", filepath.Join(dir, "collector.yml"))
	post := func(path, body string, want int) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+s.bearer)
		r.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if answer, err := io.ReadAll(response.Body); err != nil || response.StatusCode != want {
			t.Fatalf("%s: %d %s %v", path, response.StatusCode, answer, err)
		}
	}
	post("api/v2/alerts", `[{"labels":{"alertname":"Fire","severity":"critical"},"annotations":{"summary":"it burns"}}]`, 200)
	k.await(t, "/ada firing", 1)
	k.await(t, "/jonas firing", 1)
	var list struct{ Incidents []dashboards.Incident }
	if err := s.json("api/incidents", &list); err != nil || len(list.Incidents) != 1 {
		t.Fatal(list, err)
	}
	id := list.Incidents[0].ID
	post("api/incidents/"+id+"/ack", `{"comment":"mine"}`, 200)
	k.await(t, "/ada firing", 2) // the notice that somebody has it
	var one struct {
		dashboards.Incident
		Events []incident.Event
	}
	if err := s.json("api/incidents/"+id, &one); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range one.Events {
		kinds = append(kinds, e.Kind)
	}
	if !slices.Contains(kinds, "opened") || !slices.Contains(kinds, "acknowledged") || slices.Contains(kinds, "next") || one.State != "acknowledged" {
		t.Errorf("time line %v, %s", kinds, one.State)
	}
	post("api/incidents/"+id+"/resolve", `{"comment":"it was the toaster"}`, 200)
	k.await(t, "/jonas resolved", 1)
	post("api/oncall/overrides", fmt.Sprintf(`{"rota":"first","person":"jonas","to":%q}`, time.Now().Add(time.Hour).Format(time.RFC3339)), 200)

	write("oncall.yml", strings.Replace(onCallFile, "Europe/Berlin", "Mars", 1))
	if err := s.process.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.process.says(t, s.process.errs, `oncall.yml:5: zone: \"Mars\" is no IANA time zone`)
	s.kill()
	s.start() // with a broken file: the last good one is in force, and the override, too
	eventually(t, patience, func() error {
		var now dashboards.OnCall
		if err := s.json("api/oncall", &now); err != nil {
			return err
		}
		if len(now.Rotas) != 1 || now.Rotas[0].Shifts[0].Person != "jonas" || !now.Rotas[0].Shifts[0].Override {
			return errors.New("jonas does not stand in")
		}
		return nil
	})
	if got := s.metric("bramble_oncall_file_broken"); got != 1 {
		t.Errorf("bramble_oncall_file_broken is %g", got)
	}
}
