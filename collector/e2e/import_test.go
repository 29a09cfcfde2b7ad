package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestImportExportPage runs the commands of docs/import-export.md, as a shell
// does, against a collector with a board.
func TestImportExportPage(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"sh", "curl", "gzip"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	page, err := os.ReadFile("../../docs/import-export.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) != 2 {
		t.Fatalf("the page has %d blocks of commands, want 2", len(blocks))
	}
	s := newServer(t, "127.0.0.1")
	b := s.enrol("pi-1", s.nats)
	r := invent(t, "day", 100, every(1_000))
	if p := b.replay(t, r); p.exit(t, patience) != 0 {
		t.Fatalf("replay: %s", p.errs)
	}
	s.returned(b, r, 1)
	dir := t.TempDir()
	importer, viewer := s.do("", "token", "create", "--role", "importer"), s.do("", "token", "create", "--role", "viewer")
	for _, block := range blocks {
		sh := exec.Command("sh", "-eu", "-c", string(block[1]))
		sh.Dir = dir
		sh.Env = append(os.Environ(), "BRAMBLE="+strings.TrimSuffix(s.url(), "/"), "IMPORTER="+importer, "VIEWER="+viewer)
		if out, err := sh.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("%s: %v: %s", block[1], err, out)
		}
		s.kill() // answered rows are on disk
		s.start()
	}
	found := map[string]int{}
	lines, err := os.ReadFile(filepath.Join(dir, "day.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(lines)) {
		var one stored
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		found[one.Metric["__name__"]] += len(one.Values)
	}
	if found["switch_watts"] != 2 || found["switch_ports"] != 1 || found["pi_soc_temperature_celsius"] != 100 {
		t.Errorf("day.jsonl has %v", found)
	}
	table, err := os.ReadFile(filepath.Join(dir, "day.csv"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`^\d{4}-\d\d-\d\dT[0-9:.]+\S*,pi-1,[0-9.]+\n?$`)
	n := -1 // the first line names the columns
	for line := range strings.Lines(string(table)) {
		if n++; n == 0 {
			continue
		}
		if !row.MatchString(line) {
			t.Errorf("day.csv: %q", line)
		}
	}
	if n != 100 {
		t.Errorf("day.csv has %d rows, want 100", n)
	}

	s.bearer = importer
	for path, want := range map[string]int{
		"api/boards": http.StatusForbidden, "api/v1/query?query=1": http.StatusForbidden, "api/incidents": http.StatusForbidden,
		"metrics": http.StatusForbidden, "api/v1/export?match[]=up": http.StatusForbidden, "api/v2/alerts": http.StatusForbidden,
	} {
		if code, _, err := s.request(http.MethodGet, path, nil); err != nil || code != want {
			t.Errorf("an importer at %s: %d %v, want %d", path, code, err, want)
		}
	}
	s.bearer = viewer
	for _, path := range []string{"api/v1/write", "api/v1/import", "api/v1/import/prometheus", "api/v1/import/csv"} {
		if code, _, err := s.request(http.MethodPost, path, []byte("a 1")); err != nil || code != http.StatusForbidden {
			t.Errorf("a viewer at %s: %d %v", path, code, err)
		}
	}
	s.bearer = ""
	if code, _, err := s.request(http.MethodPost, "api/v1/write", nil); err != nil || code != http.StatusUnauthorized {
		t.Errorf("a stranger: %d %v", code, err)
	}
}

// TestPrometheusWritesHere lets a real Prometheus write to the collector, kills
// the collector in the middle, and compares the contents of both.
func TestPrometheusWritesHere(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("no prometheus on this machine (Debian package prometheus): ", err)
	}
	s := newServer(t, "127.0.0.1")
	dir, address := t.TempDir(), freeAddress(t, "127.0.0.1")
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	token := write("importer.token", s.do("", "token", "create", "--role", "importer"))
	config := write("prometheus.yml", fmt.Sprintf(`
global: {scrape_interval: 500ms, scrape_timeout: 500ms}
scrape_configs: [{job_name: itself, static_configs: [{targets: [%q]}]}]
remote_write:
  - url: %sapi/v1/write
    authorization: {credentials_file: %q}
    queue_config: {batch_send_deadline: 500ms, max_backoff: 1s}
`, address, s.url(), token))
	p := spawn(t, program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"), "--web.listen-address="+address)
	// The rows of `up` until a time, as Prometheus and as the collector have them.
	count := func(bearer, url string, at int64) (int, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf(`%sapi/v1/query?query=sum(count_over_time(up{job="itself"}[1h]))&time=%d`, url, at), nil)
		if err != nil {
			return 0, err
		}
		r.Header.Set("Authorization", "Bearer "+bearer)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		var a struct {
			Data struct {
				Result []struct{ Value [2]any }
			}
		}
		if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || len(a.Data.Result) != 1 {
			return 0, fmt.Errorf("%s: %d series, %w", url, len(a.Data.Result), err)
		}
		return strconv.Atoi(fmt.Sprint(a.Data.Result[0].Value[1]))
	}
	arrived := func(least int) {
		t.Helper()
		eventually(t, patience, func() error {
			n, err := count(s.bearer, s.url(), time.Now().Unix()+1)
			if err == nil && n < least {
				err = fmt.Errorf("%d rows, want %d", n, least)
			}
			return err
		})
	}
	arrived(5)
	s.kill()
	s.start()
	arrived(15)
	s.kill()
	s.start()
	arrived(25)
	until := time.Now().Unix() - 1
	eventually(t, patience, func() error {
		want, err := count("", "http://"+address+"/", until)
		if err != nil {
			return err
		}
		got, err := count(s.bearer, s.url(), until)
		if err == nil && (got != want || want < 20) {
			err = fmt.Errorf("%d rows here, %d in Prometheus", got, want)
		}
		return err
	})
	if n := s.metric(`bramble_import_requests_total{code="400"}`); n != 0 {
		t.Errorf("%v requests were refused: %s", n, p.errs)
	}
}
