package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"bramble/collector/registry"
)

// packaged is a host with the package's folders: its /etc and /var/lib hold nothing but bramble's, which is a user there.
// /mnt is shared by all hosts of a test.
type packaged struct{ etc, lib, mnt string }

func newPackaged(t *testing.T, mnt string) *packaged {
	t.Helper()
	if a := execute(t, "", "unshare", "--mount", "true"); a.code != 0 {
		t.Skipf("file systems cannot be mounted here: %s", a.errs)
	}
	p := &packaged{etc: t.TempDir(), lib: t.TempDir(), mnt: mnt}
	data := filepath.Join(p.lib, "bramble")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(data, serviceUser, serviceUser); err != nil {
		t.Skipf("needs root: %v", err)
	}
	return p
}

// argv runs the collector on the host. Where asService is set its unit's view is the collector's: /etc cannot be written.
func (p *packaged) argv(t *testing.T, asService bool, args ...string) []string {
	t.Helper()
	script := `mount --bind "$1" /etc && mount --bind "$2" /var/lib && mount --bind "$3" /mnt && shift 3 && `
	if asService {
		script += `mount -o remount,bind,ro /etc && `
	}
	return append([]string{"unshare", "--mount", "sh", "-c", script + `exec "$@"`, "sh", p.etc, p.lib, p.mnt, program(t, "collector")}, args...)
}

func (p *packaged) do(t *testing.T, args ...string) answer {
	t.Helper()
	a := execute(t, "", p.argv(t, false, args...)...)
	if a.code != 0 {
		t.Fatalf("collector %v: exit %d: %s", args, a.code, a.errs)
	}
	return a
}

// serve starts the unit's command and waits until it is ready.
func (p *packaged) serve(t *testing.T, bearer string) *server {
	t.Helper()
	s := &server{t: t, http: freeAddress(t, "127.0.0.1"), bearer: bearer}
	s.process = spawn(t, p.argv(t, true, "serve", "--config", "/etc/bramble/collector.yml", "--http", s.http, "--nats", freeAddress(t, "127.0.0.1"))...)
	s.says(t, s.out, "ready ")
	return s
}

// requests are the requests to a provider.
type requests struct {
	mu  sync.Mutex
	all []string
}

func (q *requests) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // a missing file is not found
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all = append(q.all, fmt.Sprintln(r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("X-Sms-Key"), string(body)))
}

// await waits for a request that holds all of some texts.
func (q *requests) await(t *testing.T, texts ...string) {
	t.Helper()
	eventually(t, patience, func() error {
		q.mu.Lock()
		defer q.mu.Unlock()
	next:
		for _, r := range q.all {
			for _, text := range texts {
				if !strings.Contains(r, text) {
					continue next
				}
			}
			return nil
		}
		return fmt.Errorf("no request with %q among %q", texts, q.all)
	})
}

// TestARestoreIsAStart loses a host and brings it back on an empty one, with the paths of the package, by the commands of
// the documentation alone. The files that the configuration names are back, and the collector pages by it.
func TestARestoreIsAStart(t *testing.T) {
	t.Parallel()
	got := &requests{}
	provider := httptest.NewServer(got)
	t.Cleanup(provider.Close)
	mnt := t.TempDir()
	nas := filepath.Join(mnt, "nas", "bramble")
	if err := os.MkdirAll(nas, 0o755); err != nil {
		t.Fatal(err)
	}
	lost, fresh := newPackaged(t, mnt), newPackaged(t, mnt)
	if err := os.Chown(nas, serviceUser, serviceUser); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"collector.yml": "rules: [rules/*.yml]\nalertmanager: alertmanager.yml\noncall: oncall.yml\nreceivers: receivers.yml\n" +
			"backups: {target: /mnt/nas/bramble, every: 31d, key: backup.key}\n",
		"rules/own.yml": "groups: [{name: own, rules: [{alert: Own, expr: vector(1), annotations: {summary: by a rule}}]}]\n",
		"alertmanager.yml": `
templates: [templates/*.tmpl]
route: {receiver: oncall, group_by: [alertname], group_wait: 0s}
receivers:
- name: oncall
- name: ada
  webhook_configs: [{url_file: secrets/hook.url, http_config: {authorization: {credentials_file: secrets/hook.token}}}]
- name: sms
`,
		"oncall.yml": `
people: [{name: Ada, channels: [{receiver: ada}]}, {name: Jonas, channels: [{receiver: sms}]}]
policies: [{name: all, receivers: [oncall], steps: [{notify: [Ada, Jonas]}]}]
`,
		"receivers.yml":       `{receivers: {sms: {http: [{url: "` + provider.URL + `/sms", headers: {X-Sms-Key: '{{ .Secret "key" }}'}, body: '{{ template "own.text" . }}', secrets: {key: secrets/sms.key}}]}}}`,
		"templates/own.tmpl":  `{{ define "own.text" }}own words: {{ .CommonLabels.alertname }}{{ end }}`,
		"secrets/hook.url":    provider.URL + "/hook\n",
		"secrets/hook.token":  "token-of-the-hook\n",
		"secrets/sms.key":     "key-of-the-gateway\n",
		"templates/README.md": "no template",
	} {
		path := filepath.Join(lost.etc, "bramble", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // the service reads it
			t.Fatal(err)
		}
	}
	paged := func(alert string) {
		t.Helper()
		got.await(t, "/hook", "Bearer token-of-the-hook", `"alertname":"`+alert+`"`)
		got.await(t, "/sms", "key-of-the-gateway", "own words: "+alert)
	}
	bearer := strings.TrimSpace(lost.do(t, "token", "create", "--role", "admin", "--data-dir", "/var/lib/bramble").out)
	s := lost.serve(t, bearer)
	paged("Own")
	lost.do(t, "backup", "create", "--data-dir", "/var/lib/bramble")
	if code := s.stop(t, patience); code != 0 {
		t.Fatalf("stop: exit %d: %s", code, s.errs)
	}
	for _, text := range []string{"token-of-the-hook", "key-of-the-gateway", string(linkKeyOf(t, lost))} {
		if found := holding(t, nas, []byte(text)); found != "" {
			t.Errorf("%s holds %q in the clear", found, text)
		}
	}

	key, err := os.ReadFile(filepath.Join(lost.lib, "bramble", "backup.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(fresh.etc, "usb.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	// The package brings a configuration of its own.
	if err := os.Mkdir(filepath.Join(fresh.etc, "bramble"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(fresh.etc, "bramble", "collector.yml"), []byte("# nothing is set\n"), 0o644); err != nil { //nolint:gosec // as the package has it
		t.Fatal(err)
	}
	a := fresh.do(t, "backup", "restore", "--target", "/mnt/nas/bramble", "--key", "/etc/usb.key", "--config-to", "/etc/bramble", "--aside", "--data-dir", "/var/lib/bramble")
	if !strings.Contains(a.errs, "collector serve --config /etc/bramble/collector.yml") || strings.Contains(a.errs, "does not start") {
		t.Errorf("restore says: %s", a.errs)
	}
	if left := foreign(t, filepath.Join(fresh.lib, "bramble")); len(left) > 0 {
		t.Errorf("the service does not own %v", left)
	}
	s = fresh.serve(t, bearer)
	var rules struct {
		Data struct{ Groups []struct{ Name string } }
	}
	if err := s.json("api/v1/rules", &rules); err != nil || len(rules.Data.Groups) == 0 || rules.Data.Groups[0].Name != "own" {
		t.Errorf("rules %+v, %v", rules, err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url()+"api/v2/alerts", strings.NewReader(`[{"labels":{"alertname":"Later"},"annotations":{"summary":"it burns"}}]`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+bearer)
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("post an alert: %s, %v", response.Status, err)
	}
	paged("Later")
	if code := s.stop(t, patience); code != 0 {
		t.Errorf("stop: exit %d: %s", code, s.errs)
	}
	if before, after := linkKeyOf(t, lost), linkKeyOf(t, fresh); !bytes.Equal(before, after) {
		t.Error("links in pages that were sent are void")
	}
}

// linkKeyOf is the key that signs a host's links in pages.
func linkKeyOf(t *testing.T, p *packaged) (key []byte) {
	t.Helper()
	db, err := registry.OpenDB(filepath.Join(p.lib, "bramble", "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(t.Context(), `SELECT key FROM alert_link_key`).Scan(&key); err != nil {
		t.Fatal(err)
	}
	return key
}

// holding names a file below dir that holds some bytes, "" where none does.
func holding(t *testing.T, dir string, text []byte) (found string) {
	t.Helper()
	for _, pattern := range []string{"*/*", "*/*/*"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, text) {
				found = f
			}
		}
	}
	return found
}
