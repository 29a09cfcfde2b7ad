package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// everyBoard is somebody's own alertmanager.yml, which would page each silent
// board. A simulated board has other alerts: a 3B+ at work comes to its soft limit.
const everyBoard = `route:
  receiver: nobody
  routes: [{receiver: sink, matchers: [alertname = BoardSilent]}]
  group_by: [alertname, board]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 4h
receivers:
  - name: nobody
  - name: sink
    webhook_configs: [{url: %q}]
`

// onDefaults starts a server with the default rules, whose pages go to a sink.
func onDefaults(t testing.TB, k *sink) *server {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"alertmanager.yml": fmt.Sprintf(everyBoard, k.url), "collector.yml": "alertmanager: alertmanager.yml\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return newServer(t, "127.0.0.1", "--config", filepath.Join(dir, "collector.yml"))
}

// herd is a swarm of boards of one rack, that can be killed and come back.
type herd struct {
	*process
	args []string
}

func (s *server) herd(rack string, boards int) *herd {
	s.t.Helper()
	token := s.do("", "board", "token", "--rack", rack, "--count", strconv.Itoa(boards))
	h := &herd{args: []string{"swarm", "--boards", strconv.Itoa(boards), "--nats", "nats://" + s.nats, "--state-dir", s.t.TempDir(), "--token", token}}
	h.start(s.t)
	return h
}

func (h *herd) start(t testing.TB) {
	t.Helper()
	h.process = launch(t, "collector", h.args...)
	h.says(t, h.out, "ready ")
}

// states counts the boards by pi_board_up.
func (s *server) states() (up, silent int, err error) {
	var answer struct {
		Boards []struct{ Up *bool }
	}
	if err := s.json("api/boards", &answer); err != nil {
		return 0, 0, err
	}
	for _, b := range answer.Boards {
		switch {
		case b.Up == nil:
		case *b.Up:
			up++
		default:
			silent++
		}
	}
	return up, silent, nil
}

func (s *server) are(up, silent int) func() error {
	return func() error {
		u, n, err := s.states()
		if err == nil && (u != up || n != silent) {
			err = fmt.Errorf("%d boards up and %d silent, want %d and %d", u, n, up, silent)
		}
		return err
	}
}

// TestSilence runs real processes: a rack that vanishes is one page, with its
// reasons. In a run for endurance a collector that is stopped for 40 s before
// calls nobody silent; the failure is the collector's, which all boards share; and each is over
// when the boards are back.
func TestSilence(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	s := onDefaults(t, k)
	first, second := s.herd("r1", 4), s.herd("r2", 4)
	eventually(t, patience, s.are(8, 0))
	if enduring() {
		s.pauses(k)
	}

	first.kill()
	eventually(t, patience, s.are(4, 4))
	eventually(t, patience, k.has(map[string]int{"rack r1": 1}))
	in := s.firing(t)
	for _, wanted := range []string{"Rack r1: 4 of 4 boards silent since", "4 of 4 boards of rack r1; their last reports came within", "Rack r2 reports."} {
		if !strings.Contains(in.Title+" "+in.Reason, wanted) {
			t.Errorf("incident %+v does not say %q", in, wanted)
		}
	}
	if !enduring() {
		return
	}
	second.kill()
	eventually(t, patience, s.are(0, 8))
	eventually(t, patience, k.has(map[string]int{"rack r1": 1, "collector": 1}))

	first.start(t)
	second.start(t)
	eventually(t, patience, s.are(8, 0))
	eventually(t, patience+time.Minute, func() error {
		if still := s.open(t); len(still) != 0 {
			return fmt.Errorf("still open: %+v", still)
		}
		return nil
	})
	for who := range k.told() {
		if !slices.Contains([]string{"rack r1", "collector"}, who) {
			t.Errorf("a page about %s", who)
		}
	}
}

// pauses stops a collector, all of whose boards report, for longer than a board may be silent.
func (s *server) pauses(k *sink) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
	after(s.t, 40*time.Second)
	if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(75 * time.Second); time.Now().Before(end); after(s.t, time.Second) {
		if _, silent, err := s.states(); err != nil || silent > 0 {
			s.t.Fatalf("after the pause %d boards are silent, %v", silent, err)
		}
	}
	if told := k.told(); len(told) != 0 {
		s.t.Fatalf("after the pause pages left: %v", told)
	}
	eventually(s.t, patience, s.are(8, 0))
}

// has wants these pages and no other.
func (k *sink) has(want map[string]int) func() error {
	return func() error {
		if got := k.told(); !maps.Equal(got, want) {
			return fmt.Errorf("pages %v, want %v", got, want)
		}
		return nil
	}
}

// told is an incident as the API has it.
type told struct {
	Title, Reason, State string
	Boards               []string
	PagesNobody          bool
	Pages                []struct{ LatencyMs int64 }
}

// open returns the open incidents of silence.
func (s *server) open(t testing.TB) (open []told) {
	t.Helper()
	var list struct{ Incidents []told }
	if err := s.json("api/incidents", &list); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(list.Incidents, func(in told) bool {
		return in.State == "resolved" || !strings.Contains(in.Title, "silent") && !strings.Contains(in.Title, "no reports")
	})
}

// firing returns the only open incident.
func (s *server) firing(t testing.TB) told {
	t.Helper()
	open := s.open(t)
	if len(open) != 1 {
		t.Fatalf("open incidents: %+v", open)
	}
	return open[0]
}

// TestLoneBoards: a customer's board that vanishes is an incident without a
// page, in the words that were announced; the operator's own board pages, and
// the page says that its address answers.
func TestLoneBoards(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	s := onDefaults(t, k)
	let := s.enrol("let", s.nats, "rack=r1", "customer=alder")
	code, b, err := s.request(http.MethodPost, "api/boards/let/expect", []byte(`{"what":"reinstall","within":"20m"}`))
	if err != nil || code != http.StatusOK {
		t.Fatalf("announce: %d %s %v", code, b, err)
	}
	for body, wanted := range map[string]string{
		`{"what":"party"}`: "want one of reboot, reinstall, shutdown", `{"what":"reboot","within":"2 days"}`: "want a duration",
		`{"when":1}`: "unknown field", ``: "write it like",
	} {
		code, b, err := s.request(http.MethodPost, "api/boards/let/expect", []byte(body))
		var answer struct{ Error string }
		if err != nil || code != http.StatusBadRequest || json.Unmarshal(b, &answer) != nil || !strings.Contains(answer.Error, wanted) {
			t.Errorf("%s: %d %s %v, want %q", body, code, b, err, wanted)
		}
	}
	if code, _, err := s.request(http.MethodPost, "api/boards/nobody/expect", []byte(`{"what":"reboot"}`)); err != nil || code != http.StatusNotFound {
		t.Errorf("announce for nobody: %d %v", code, err)
	}
	s.kill() // the announcement is on disk
	s.start()
	s.herd("r1", 3) // boards that reported before the start would be given a minute
	sensor := launch(t, "pisensor", "run", "--state-dir", let.state, "--interval", "1s")
	eventually(t, patience, s.are(4, 0))
	sensor.kill()
	eventually(t, 3*patience, s.are(3, 1))
	eventually(t, patience, func() error {
		if n := len(s.open(t)); n != 1 {
			return fmt.Errorf("%d incidents", n)
		}
		return nil
	})
	in := s.firing(t)
	for _, wanted := range []string{"let: no reports since", "The 3 other boards of rack r1 report.", "A reinstall was announced by "} {
		if !strings.Contains(in.Title+" "+in.Reason, wanted) {
			t.Errorf("incident %+v does not say %q", in, wanted)
		}
	}
	if !in.PagesNobody || len(in.Pages) != 0 || len(k.told()) != 0 {
		t.Errorf("incident %+v, pages %v", in, k.told())
	}
}

// TestSensorThatStopped: a board alone behind its address, whose sensor is
// killed, is said to live.
func TestSensorThatStopped(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	s := onDefaults(t, k)
	own := s.enrol("own", s.nats)
	sensor := launch(t, "pisensor", "run", "--state-dir", own.state, "--interval", "1s")
	eventually(t, patience, s.are(1, 0))
	sensor.kill()
	eventually(t, 2*patience, s.are(0, 1)) // the collector's own start may give it grace
	eventually(t, patience, k.has(map[string]int{"own": 1}))
	if in := s.firing(t); !strings.Contains(in.Reason, "127.0.0.1 answers: the sensor stopped") {
		t.Errorf("incident %+v", in)
	}
}

// BenchmarkVanish measures the cost of 500 boards that vanish behind one switch,
// under routes that would page each of them: the time from the collector's
// decision to the page's departure, and the pages of the first minute.
func BenchmarkVanish(b *testing.B) {
	const boards = 500
	for b.Loop() {
		k := newSink(b)
		s := onDefaults(b, k)
		s.herd("r2", 4)
		gone := s.herd("r1", boards)
		eventually(b, 5*patience, s.are(boards+4, 0))
		gone.kill()
		killed := time.Now()
		eventually(b, 5*patience, s.are(4, boards))
		eventually(b, patience, k.has(map[string]int{"rack r1": 1}))
		b.ReportMetric(time.Since(killed).Seconds(), "s-to-page")
		after(b, time.Minute)
		told := k.told()
		if len(told) != 1 || told["rack r1"] != 1 {
			b.Errorf("pages %v, want one", told)
		}
		in := s.firing(b)
		b.ReportMetric(float64(in.Pages[0].LatencyMs), "decision-to-page-ms")
		b.ReportMetric(float64(len(told)), "pages")
		b.Log(in.Title, in.Reason)
		gone.kill()
	}
}
