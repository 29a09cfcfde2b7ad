package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// vanilla is a VictoriaMetrics server of its own, built from the module that
// the collector embeds.
type vanilla struct {
	*process
	argv []string
	url  string
}

// vanillaProgram builds the server once for all tests.
var vanillaProgram = sync.OnceValues(func() (string, error) {
	program := filepath.Join(programs, "victoria-metrics")
	out, err := exec.Command("go", "build", "-o", program, "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the vanilla server: %w\n%s", err, out)
	}
	return program, nil
})

func newVanilla(t testing.TB) *vanilla {
	t.Helper()
	program, err := vanillaProgram()
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t, "127.0.0.1")
	return &vanilla{url: "http://" + address, argv: []string{
		program, "-storageDataPath=" + filepath.Join(t.TempDir(), "data"), "-httpListenAddr=" + address,
		"-retentionPeriod=2y", "-dedup.minScrapeInterval=1ms",
	}}
}

func (v *vanilla) start(t testing.TB) {
	t.Helper()
	v.process = spawn(t, v.argv...)
	eventually(t, patience, func() error {
		if !strings.Contains(v.errs.String(), "started server at") {
			return errors.New("the vanilla server has not started")
		}
		return nil
	})
}

// TestRemoteStore keeps the series in a server elsewhere. It and the collector
// are killed, together and one after the other: reports are acknowledged and
// decided all the while, and every reading is there exactly once in the end.
func TestRemoteStore(t *testing.T) {
	t.Parallel()
	v := newVanilla(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "collector.yml")
	for name, content := range map[string]string{
		config:                           "rules: [warm.rules]\nstore:\n  write: " + v.url + "\n  keep: 24s\n",
		filepath.Join(dir, "warm.rules"): "groups:\n  - name: warm\n    rules:\n      - alert: Warm\n        expr: pi_soc_temperature_celsius > 1\n",
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newServer(t, "127.0.0.1", "--config", config) // the remote is not there yet
	boards := []board{s.enrol("pi-1", s.nats), s.enrol("pi-2", s.nats)}
	sent := []*recorded{invent(t, "first", 500, every(1_000)), invent(t, "second", 3000, every(5_000))}
	ready := func(want int) {
		t.Helper()
		eventually(t, patience, func() error {
			code, _, err := s.request(http.MethodGet, "-/ready", nil)
			if err == nil && code != want {
				err = fmt.Errorf("ready: %d, want %d", code, want)
			}
			return err
		})
	}
	replay := func(i int) {
		t.Helper()
		if p := boards[i].replay(t, sent[i]); p.exit(t, patience) != 0 { // it ends when all is acknowledged
			t.Fatalf("replay: %s", p.errs)
		}
	}

	replay(0)
	eventually(t, patience, func() error {
		b, err := s.get("api/incidents")
		if err == nil && !strings.Contains(string(b), "Warm") {
			err = fmt.Errorf("no incident: %s", b)
		}
		return err
	})
	ready(http.StatusServiceUnavailable)
	if code, _, err := s.request(http.MethodGet, "/", nil); err != nil || code != http.StatusOK {
		t.Errorf("the page: %d, %v", code, err)
	}
	s.kill()
	s.start() // rows for the remote wait on disk

	v.start(t)
	ready(http.StatusOK)
	s.returned(boards[0], sent[0], 1)

	replay(1)
	v.kill() // the last readings are in its memory alone
	v.start(t)
	s.returned(boards[1], sent[1], 1)
	v.kill()
	s.kill()
	v.start(t)
	s.start()
	for i := range boards {
		s.returned(boards[i], sent[i], 1)
	}

	name := s.do("", "backup", "create")
	manifest, err := os.ReadFile(filepath.Join(s.dir, "backups", name, "manifest.json"))
	if err != nil || !strings.Contains(string(manifest), "they are in the remote store "+v.url) {
		t.Errorf("manifest: %v: %s", err, manifest)
	}
	if code := s.stop(t, patience); code != 0 {
		t.Errorf("stop: exit %d: %s", code, s.errs)
	}

	// Elsewhere, with the same configuration: the boards come from the backup, their series are where they were.
	r := &server{t: t, dir: filepath.Join(t.TempDir(), "new"), http: freeAddress(t, "127.0.0.1"), nats: freeAddress(t, "127.0.0.1"), args: s.args, bearer: s.bearer}
	r.do("", "backup", "restore", "--target", filepath.Join(s.dir, "backups"))
	r.start()
	for i := range boards {
		r.returned(boards[i], sent[i], 1)
	}
	if list := r.do("", "board", "list"); !strings.Contains(list, "pi-1") || !strings.Contains(list, "pi-2") {
		t.Errorf("boards: %s", list)
	}
}

// TestRemoteStoreKilledAgainAndAgain kills the collector and the remote store at
// random moments while boards replay: every reading is there exactly once.
func TestRemoteStoreKilledAgainAndAgain(t *testing.T) {
	endurance(t)
	t.Parallel()
	kills, seed := killPlan(t)
	random := rand.New(rand.NewPCG(seed, 0))
	v := newVanilla(t)
	v.start(t)
	config := filepath.Join(t.TempDir(), "collector.yml")
	if err := os.WriteFile(config, []byte("store: {write: \""+v.url+"\", keep: 24s}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, "127.0.0.1", "--config", config)
	boards := []board{s.enrol("pi-1", s.nats), s.enrol("pi-2", s.nats)}
	sent := []*recorded{invent(t, "live", 800, every(1_000)), invent(t, "past", 30_000, every(5_000))}
	speeds := []float64{20, 1} // 40 s, and as fast as it goes
	replays := []*process{boards[0].replay(t, sent[0], "--speed", "20"), boards[1].replay(t, sent[1])}
	for i := range kills {
		after(t, time.Duration(random.IntN(4000))*time.Millisecond)
		if i%3 != 1 {
			v.kill()
		}
		if i%3 != 0 {
			s.kill()
			s.start()
		}
		if i%3 != 1 {
			v.start(t)
		}
	}
	for i, p := range replays {
		if code := p.exit(t, 2*patience); code != 0 {
			t.Errorf("replay %d: exit %d: %s", i, code, p.errs)
		}
	}
	v.kill()
	v.start(t)
	for i, b := range boards {
		s.returned(b, sent[i], speeds[i])
	}
	t.Logf("%d readings are there once", sent[0].readings()+sent[1].readings())
}
