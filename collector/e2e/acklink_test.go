package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bramble/dashboards"
)

// TestAcknowledgeByLink takes a page of a real crossing from its receivers and follows its links, without a login.
func TestAcknowledgeByLink(t *testing.T) {
	t.Parallel()
	bodies := make(chan []byte, 100)
	k := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies <- b
	}))
	t.Cleanup(k.Close)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"rules.yml":     crossingRules,
		"routes.yml":    "route: {receiver: phone, group_by: [alertname, board], group_wait: 0s, group_interval: 1s, repeat_interval: 4h}\nreceivers: [{name: phone}]\n",
		"receivers.yml": fmt.Sprintf("receivers: {phone: {ntfy: [{url: %q, topic: oncall}]}}\n", k.URL),
		"collector.yml": "rules: [rules.yml]\nalertmanager: routes.yml\nreceivers: receivers.yml\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newServer(t, "127.0.0.1", "--config", filepath.Join(dir, "collector.yml"))
	b := s.enrol("pi-1", s.nats)
	b.replay(t, understand(t, "hot", hot))
	var page struct {
		Title, Attach string
		Actions       []struct{ Label, Method, URL string }
	}
	select {
	case body := <-bodies:
		if err := json.Unmarshal(body, &page); err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("no page")
	}
	if !strings.HasPrefix(page.Title, "pi-1 is at 8") || len(page.Actions) != 2 || page.Actions[0].Label != "Acknowledge" {
		t.Fatalf("%+v", page)
	}
	link := page.Actions[0].URL
	if code, body := stranger(t, http.MethodGet, link); code != http.StatusOK || !strings.Contains(body, "pi-1 is at 8") {
		t.Errorf("the link shows %d %s", code, body)
	}
	if in := s.onlyIncident(); in.AcknowledgedAt != 0 {
		t.Errorf("following the link acknowledged: %+v", in)
	}
	if code, body := stranger(t, http.MethodPost, link[:len(link)-3]+"AAA"); code != http.StatusForbidden {
		t.Errorf("a forged link: %d %s", code, body)
	}
	if code, body := stranger(t, page.Actions[0].Method, link); code != http.StatusOK {
		t.Errorf("the button: %d %s", code, body)
	}
	if in := s.onlyIncident(); in.AcknowledgedBy != "phone" {
		t.Errorf("acknowledged by %q, want phone", in.AcknowledgedBy)
	}
	code, picture := stranger(t, http.MethodGet, page.Attach)
	if _, err := png.Decode(bytes.NewReader([]byte(picture))); code != http.StatusOK || err != nil {
		t.Errorf("picture: %d %v", code, err)
	}
}

// stranger makes a request without a token.
func stranger(t *testing.T, method, address string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

func (s *server) onlyIncident() dashboards.Incident {
	s.t.Helper()
	var list struct{ Incidents []dashboards.Incident }
	if err := s.json("api/incidents", &list); err != nil || len(list.Incidents) != 1 {
		s.t.Fatalf("%d incidents, %v", len(list.Incidents), err)
	}
	return list.Incidents[0]
}
