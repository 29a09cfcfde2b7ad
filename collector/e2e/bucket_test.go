package e2e

import (
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// bucketConfig writes a configuration with backups in a bucket of a real S3
// server, spoken to over TLS.
func bucketConfig(t *testing.T, dataDir string) string {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("racks"); err != nil {
		t.Fatal(err)
	}
	store := httptest.NewTLSServer(gofakes3.New(backend).Server())
	t.Cleanup(store.Close)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"ca.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: store.Certificate().Raw})),
		"keys":   "[default]\naws_access_key_id = of-a-test\naws_secret_access_key = of-a-test\n",
		"collector.yml": fmt.Sprintf("data_dir: %s\nretention: 99y\nbackups:\n  target: s3://racks/site-1\n  every: 31d\n  s3: {endpoint: %q, credentials: keys, ca: ca.pem}\n",
			dataDir, store.URL),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "collector.yml")
}

// answers asks as people's dashboards do, about a time that is over.
func (s *server) answers(from, until time.Time) (map[string]string, error) {
	all := map[string]string{}
	for _, expr := range []string{
		`pi_soc_temperature_celsius`, `avg_over_time(pi_soc_temperature_celsius[1m])`, `sum by (rack) (pi_load1)`,
		`quantile(0.9, pi_cpu_clock_hertz{source="measured"})`, `count(pi_core_volts)`, `rate(pi_load1[2m])`,
	} {
		between := url.Values{"query": {expr}, "start": {unixText(from)}, "end": {unixText(until)}, "step": {"7s"}, "nocache": {"1"}}
		at := url.Values{"query": {expr}, "time": {unixText(until)}, "nocache": {"1"}}
		for _, path := range []string{"api/v1/query_range?" + between.Encode(), "api/v1/query?" + at.Encode()} {
			b, err := s.get(path)
			if err != nil {
				return nil, err
			}
			text, _, _ := strings.Cut(string(b), `,"stats"`) // how long it took
			all[path] = text
		}
	}
	return all, nil
}

// TestARestoredCollectorAnswersTheSame loses a collector whose backups are in a
// bucket. The restored one answers the same queries with the same numbers.
func TestARestoredCollectorAnswersTheSame(t *testing.T) {
	t.Parallel()
	s := &server{t: t, dir: filepath.Join(t.TempDir(), "data"), http: freeAddress(t, "127.0.0.1"), nats: freeAddress(t, "127.0.0.1")}
	config := bucketConfig(t, s.dir)
	s.args = []string{"--config", config}
	s.found()
	s.start()
	b := s.enrol("pi-1", s.nats, "rack=r1")
	sent := invent(t, "sent", 400, every(5_000))
	if code := b.replay(t, sent).exit(t, patience); code != 0 {
		t.Fatalf("replay: exit %d", code)
	}
	from := time.UnixMilli(s.returned(b, sent, 1))
	until := from.Add(sent.length() - time.Minute)
	before, err := s.answers(from, until)
	if err != nil {
		t.Fatal(err)
	}
	name := s.do("", "backup", "create")
	if list := s.do("", "backup", "list"); !strings.Contains(list, name) || strings.Contains(list, "bad") {
		t.Errorf("list: %s", list)
	}
	if got := s.do("", "backup", "verify", "s3://racks/site-1/"+name); got != name {
		t.Errorf("verified %q", got)
	}
	s.kill()

	r := &server{t: t, dir: filepath.Join(t.TempDir(), "new"), http: s.http, nats: s.nats, bearer: s.bearer, args: s.args}
	if got := r.do("", "backup", "restore", "--config", config, "--key", filepath.Join(s.dir, "backup.key")); got != name {
		t.Errorf("restored %q, want %q", got, name)
	}
	r.start()
	r.returned(b, sent, 1)
	after, err := r.answers(from, until)
	if err != nil {
		t.Fatal(err)
	}
	for path, answer := range before {
		if !strings.Contains(answer, `"value`) {
			t.Errorf("%s answers nothing: %s", path, answer)
		}
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("(-original +restored):\n%s", diff)
	}
	if code := r.stop(t, patience); code != 0 { // a backup that is under way has a process of its own
		t.Errorf("stop: exit %d: %s", code, r.errs)
	}
}

// TestAnUpgradeBacksUpIntoTheBucket and names the way back that leads there.
func TestAnUpgradeBacksUpIntoTheBucket(t *testing.T) {
	t.Parallel()
	for name, want := range olderReleases(t) {
		s := oldServer(t, name, newSink(t))
		s.bearer, s.args = want.Bearer, []string{"--config", bucketConfig(t, s.dir)}
		s.start()
		if code := s.stop(t, patience); code != 0 {
			t.Fatalf("stop: exit %d: %s", code, s.errs)
		}
		aNewerCollectorWas(t, s.dir, "s3://racks/site-1/"+strings.Fields(s.do("", "backup", "list", s.args[0], s.args[1]))[6])
		a := command(t, "", "collector", append([]string{"serve", "--data-dir", s.dir, "--http", s.http, "--nats", s.nats}, s.args...)...)
		a.refusal(t, "collector backup restore s3://racks/site-1/", "--config "+s.args[1])
		_, way, _ := strings.Cut(a.errs, "collector backup restore ")
		if restored := command(t, "", "collector", append([]string{"backup", "restore"}, strings.Fields(way)...)...); restored.code != 0 {
			t.Fatalf("following what it says: %s", restored.errs)
		}
		s.start()
		if !strings.Contains(s.errs.String(), "an older collector's data is upgraded") {
			t.Errorf("the state before the upgrade was not restored: %s", s.errs)
		}
		if code := s.stop(t, patience); code != 0 { // with the backup that is under way
			t.Errorf("stop: exit %d: %s", code, s.errs)
		}
	}
}
