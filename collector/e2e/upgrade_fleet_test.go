package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestRestartOfAFleet stops and starts a collector while boards report: no page, no reading lost, none doubled.
func TestRestartOfAFleet(t *testing.T) {
	t.Parallel()
	replaceCollector(t, program(t, "collector"), 20, 2*fleetRhythm)
}

// TestUpgradeOfAFleet replaces a release's collector by today's, of three times as many boards, and waits for as long as a
// page about silence would take.
func TestUpgradeOfAFleet(t *testing.T) {
	endurance(t)
	t.Parallel()
	upgradeFleet(t, 60)
}

// BenchmarkUpgradeOfAFleet is the same with 2,000 boards, once.
func BenchmarkUpgradeOfAFleet(b *testing.B) { upgradeFleet(b, 2000) }

// firstSchema is the recording of the oldest schema.
const firstSchema = "schema-1"

func upgradeFleet(t testing.TB, boards int) {
	s := replaceCollector(t, programOf(t, firstSchema), boards, quiet)
	if !strings.Contains(s.errs.String(), "upgraded") {
		t.Errorf("it did not upgrade: %s", s.errs)
	}
}

const (
	// fleetRhythm is the time between two readings of a board at the default rate, and fleetSlack how late one may be
	// taken on a busy machine: one that is lost leaves twice the rhythm.
	fleetRhythm = 10 * time.Second
	fleetSlack  = fleetRhythm / 2
	// quiet is how long nobody may be paged once the new collector answers: it pages for no silence in its first
	// minute, and a board is silent after half a minute.
	quiet = 100 * time.Second
)

// replaceCollector stops a program that serves a fleet and starts today's on its data, which it returns. It looks at the
// readings and pages until some time after the start.
func replaceCollector(t testing.TB, old string, boards int, quiet time.Duration) *server {
	t.Helper()
	k := newSink(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "collector.yml")
	for name, text := range map[string]string{"alertmanager.yml": fmt.Sprintf(crossingRoute, k.url), "collector.yml": "alertmanager: alertmanager.yml\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := &server{t: t, dir: filepath.Join(dir, "data"), http: freeAddress(t, "127.0.0.1"), nats: freeAddress(t, "127.0.0.1"), args: []string{"--config", config}}
	serve := []string{"serve", "--data-dir", s.dir, "--http", s.http, "--nats", s.nats, "--config", config}
	administer := func(args ...string) string {
		t.Helper()
		a := execute(t, "", append(append([]string{old}, args...), "--data-dir", s.dir)...)
		if a.code != 0 {
			t.Fatalf("%v: %s", args, a.errs)
		}
		return strings.TrimSpace(a.out)
	}
	s.bearer = administer("token", "create", "--role", "admin")
	s.process = spawn(t, append([]string{old}, serve...)...)
	s.says(t, s.out, "ready ")
	token := administer("board", "token", "--rack", "r9", "--count", strconv.Itoa(boards))
	swarm := launch(t, "collector", "swarm", "--boards", strconv.Itoa(boards), "--nats", "nats://"+s.nats, "--token", token)
	eventually(t, 2*patience, s.reporting(boards))
	after(t, fleetRhythm+fleetSlack)
	from := time.Now()

	stopped := time.Now()
	if code := s.stop(t, patience); code != 0 {
		t.Fatalf("stop: exit %d: %s", code, s.errs)
	}
	s.start()
	away := time.Since(stopped)
	after(t, quiet)
	until := time.Now().Add(-fleetRhythm) // readings on their way are waited for
	eventually(t, 2*patience, func() error { return s.unbroken(boards, from, until) })
	if pages := k.told(); len(pages) > 0 {
		t.Errorf("pages: %v", pages)
	}
	s.unique(from, until)
	if code := swarm.stop(t, patience); code != 0 {
		t.Errorf("swarm: exit %d: %s", code, swarm.errs)
	}
	t.Logf("%d boards: %.1f s without a collector, its backup and upgrade included; no page, no reading lost", boards, away.Seconds())
	if b, ok := t.(*testing.B); ok {
		b.ReportMetric(away.Seconds(), "s-away")
	}
	return s
}

// temperatures exports one metric of all boards between two times.
func (s *server) temperatures(from, until time.Time) ([]stored, error) {
	q := url.Values{"match[]": {`pi_soc_temperature_celsius{rack="r9"}`}, "start": {unixText(from)}, "end": {unixText(until)}}
	b, err := s.get("api/v1/export?" + q.Encode())
	if err != nil {
		return nil, err
	}
	var all []stored
	for line := range strings.Lines(string(b)) {
		var one stored
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			return nil, fmt.Errorf("export: %w", err)
		}
		all = append(all, one)
	}
	return all, nil
}

// unbroken wants a reading of every board at each of its ticks: sensors sample
// faster near a line, never slower.
func (s *server) unbroken(boards int, from, until time.Time) error {
	series, err := s.temperatures(from, until)
	if err != nil {
		return err
	}
	if len(series) != boards {
		return fmt.Errorf("%d series, want %d", len(series), boards)
	}
	longest := (fleetRhythm + fleetSlack).Milliseconds()
	for _, one := range series {
		before := from.UnixMilli()
		for _, at := range append(one.Timestamps, until.UnixMilli()) {
			if at-before > longest {
				return fmt.Errorf("%s has no reading for %d ms behind %s", one.Metric["board"], at-before, time.UnixMilli(before).UTC().Format(time.RFC3339Nano))
			}
			before = at
		}
	}
	return nil
}

// unique wants no reading twice, under any labels.
func (s *server) unique(from, until time.Time) {
	s.t.Helper()
	series, err := s.temperatures(from, until)
	if err != nil {
		s.t.Fatal(err)
	}
	seen := map[point]bool{}
	for _, one := range series {
		for _, at := range one.Timestamps {
			p := point{one.Metric["board"], at}
			if seen[p] {
				s.t.Errorf("%v stands there twice", p)
			}
			seen[p] = true
		}
	}
}
