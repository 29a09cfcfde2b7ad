package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"bramble/pisensor/report"
)

// percentile returns the p-th hundredth of durations, in ms.
func percentile(all []time.Duration, p int) float64 {
	slices.Sort(all)
	return float64(all[min(len(all)*p/100, len(all)-1)].Microseconds()) / 1000
}

// BenchmarkReadingToBrowser measures what a live reading takes from the board's
// NATS connection to the frame in a browser's websocket: TLS, decoding, rules
// and hub included. The sensor publishes in the instant in which it samples.
func BenchmarkReadingToBrowser(b *testing.B) {
	s := newServer(b, "127.0.0.1")
	board := s.enrol("pi-1", s.nats)
	a := s.attack(board)
	header := http.Header{"Authorization": {"Bearer " + s.bearer}}
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+s.http+"/live", header)
	if err != nil {
		b.Fatal(err)
	}
	defer ws.Close()
	if err := ws.WriteJSON(map[string]any{"type": "subscribe", "board": "pi-1"}); err != nil {
		b.Fatal(err)
	}
	frames := make(chan int64, 16) // times of readings
	go func() {
		defer close(frames)
		for {
			var m struct {
				Type   string
				At     int64
				Values map[string]*float64
			}
			if ws.ReadJSON(&m) != nil {
				return
			}
			if m.Type == "reading" && m.Values["pi_soc_temperature_celsius"] != nil {
				frames <- m.At
			}
		}
	}()
	var took []time.Duration
	at := time.Now().Add(-time.Hour)
	for b.Loop() {
		at = at.Add(time.Second)
		began := time.Now()
		a.send(b, report.TelemetrySubject("pi-1"), warmReport(uint32(at.Unix()), at, 50))
		for got := range frames {
			if got == at.UnixMilli() {
				break
			}
		}
		took = append(took, time.Since(began))
	}
	b.ReportMetric(percentile(took, 50), "p50-ms")
	b.ReportMetric(percentile(took, 99), "p99-ms")
}

// BenchmarkCrossingToPage measures the collector's share from a reading that
// crosses a line to the webhook's request: journal and the page's own record
// are on disk before.
func BenchmarkCrossingToPage(b *testing.B) {
	k := newSink(b)
	s := alarmed(b, k)
	const boards = 100 // one page each
	attackers := make([]*attacker, boards)
	for i := range attackers {
		attackers[i] = s.attack(s.enrol(fmt.Sprintf("pi-%d", i), s.nats))
	}
	arrived := make(chan string, 16)
	k.tell(func(board string) { arrived <- board })
	var took []time.Duration
	b.ResetTimer()
	for i := 0; i < min(b.N, boards); i++ {
		name := fmt.Sprintf("pi-%d", i)
		began := time.Now()
		attackers[i].send(b, report.TelemetrySubject(name), warmReport(1, began, 85))
		for board := range arrived {
			if board == name {
				break
			}
		}
		took = append(took, time.Since(began))
	}
	b.ReportMetric(percentile(took, 50), "p50-ms")
	b.ReportMetric(percentile(took, 99), "p99-ms")
}

// BenchmarkFiveHundredCross measures the same where 500 boards, which share nothing, cross the line at once: each from the
// publication of its own reading to its own request. They cross once: -benchtime 1x.
func BenchmarkFiveHundredCross(b *testing.B) {
	k := newSink(b)
	var f *fleet
	var connect func()
	s := onDisk(b, b.TempDir(), k, func(s *server) {
		boards, keys := newFleet(b, s, 500)
		f, connect = boards, func() { boards.connect(keys, nil) }
	})
	f.server = s
	connect()
	for _, board := range f.boards {
		board.report(time.Now(), 50)
	}
	f.settled(patience)
	arrived := make(chan string, len(f.boards))
	k.tell(func(board string) { arrived <- board })
	for b.Loop() {
		began := map[string]time.Time{}
		var took []time.Duration
		for _, board := range f.boards {
			began[board.name] = time.Now()
			board.report(began[board.name].Add(-time.Second), 85) // the default SocHot wants two in a row
			board.report(began[board.name], 85)
		}
		for len(took) < len(f.boards) {
			select {
			case board := <-arrived:
				took = append(took, time.Since(began[board]))
			case <-time.After(patience):
				b.Fatalf("%d of %d boards page", len(took), len(f.boards))
			}
		}
		b.ReportMetric(percentile(took, 50), "p50-ms")
		b.ReportMetric(percentile(took, 99), "p99-ms")
	}
}

// BenchmarkTwentyFourBoards measures what a collector costs while 24 boards
// report each 10 s and nobody looks, over a minute.
func BenchmarkTwentyFourBoards(b *testing.B) {
	s := newServer(b, "127.0.0.1")
	token := s.do("", "board", "token", "--rack", "r1", "--count", "24")
	swarm := launch(b, "collector", "swarm", "--boards", "24", "--nats", "nats://"+s.nats, "--token", token, "--state-dir", b.TempDir())
	swarm.says(b, swarm.out, "ready ")
	after(b, 90*time.Second) // past the start and the first checkpoints
	const window = time.Minute
	for b.Loop() {
		before := cpuSeconds(b, s.cmd.Process.Pid)
		after(b, window)
		used := cpuSeconds(b, s.cmd.Process.Pid) - before
		b.ReportMetric(used/window.Seconds()*100, "%core")
		b.ReportMetric(float64(residentKiB(b, s.cmd.Process.Pid))/1000*1.024, "MB-resident")
	}
}

// cpuSeconds returns the CPU time of a process: fields 14 and 15 of
// /proc/PID/stat, in USER_HZ, which is 100 (proc(5)).
func cpuSeconds(t testing.TB, pid int) float64 {
	t.Helper()
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // the name may hold spaces
	fields := strings.Fields(rest)
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return (user + system) / 100
}

func residentKiB(t testing.TB, pid int) int {
	t.Helper()
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
