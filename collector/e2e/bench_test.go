package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nkeys"

	"bramble/collector/broker"
	"bramble/pisensor/report"
	"bramble/pisensor/sensor"
)

// percentile returns the p-th hundredth of durations, in ms.
func percentile(all []time.Duration, p int) float64 {
	slices.Sort(all)
	return float64(all[min(len(all)*p/100, len(all)-1)].Microseconds()) / 1000
}

// BenchmarkReadingToBrowser measures the time of a live reading from the board's
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

// crossingBoard gives the readings of one board's sensor: a chip that heats up steadily from a time on, or a supply that fails
// at a time, of which the kernel tells.
type crossingBoard struct {
	from  time.Time
	slope float64 // °C a second from 60 °C on, up to 84 °C; 0: the supply fails at from
	wake  chan struct{}
}

// The lines of a board that heats up: the default SocHot's, and where the firmware of these boards throttles.
const coolAt, hotAt, throttledAt, hottest = 60.0, 80.0, 82.0, 84.0

// reaches is when the board has a temperature.
func (c *crossingBoard) reaches(celsius float64) time.Time {
	return c.from.Add(time.Duration((celsius - coolAt) / c.slope * float64(time.Second)))
}

// Read implements sensor.Source.
func (c *crossingBoard) Read(t *report.Tick) {
	const underVoltage, throttled = 1 << 0, 1 << 2
	since := max(0, time.Since(c.from).Seconds())
	celsius := min(coolAt+c.slope*since, hottest)
	var bits, supply int64
	if c.slope == 0 && since > 0 {
		bits, supply = underVoltage, report.SupplyLow
	}
	if celsius >= throttledAt {
		bits |= throttled
	}
	t.Add(report.SOCTemperature, int64(celsius*1000))
	t.Add(report.Throttled, bits)
	t.Add(report.SupplyFault, supply)
}

// BenchmarkBoardToPage measures promise 4 over the whole chain: 200 boards with the sensor's own code at its default rate, each
// with a peer in its rack, connect over TLS to a collector of its own process with the default rules; 100 of them heat up, at
// slopes that recordings show, and are throttled, the supplies of 100 fail. The time is from the instant at which a board
// crosses, which lies anywhere within its interval, to the request at the webhook's receiver. They cross once: -benchtime 1x.
func BenchmarkBoardToPage(b *testing.B) {
	const pairs, spread = 100, 60 * time.Second
	k := newSink(b)
	var f *fleet
	var keys []nkeys.KeyPair
	s := onDisk(b, b.TempDir(), k, func(s *server) {
		f, keys = newFleetIn(b, s, 2*pairs, func(i int) map[string]string { return map[string]string{"rack": fmt.Sprintf("r%03d", i/2)} })
	})
	pin, err := broker.PinOf(s.dir)
	if err != nil {
		b.Fatal(err)
	}
	type page struct{ alert, board string }
	crossed, paged := map[page]time.Time{}, map[page]time.Time{}
	arrived := make(chan page, 10*pairs)
	k.onAlert = func(alert, board string) { arrived <- page{alert, board} } // no page has left yet
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	start := time.Now().Add(30 * time.Second) // all are connected by then, and know the lines
	for i, board := range f.boards {
		at := start.Add(spread * time.Duration(i/2) / pairs)
		c := &crossingBoard{from: at, wake: make(chan struct{}, 1)}
		if i%2 == 0 {
			c.slope = 0.2 + 0.9*float64(i)/(2*pairs)
			crossed[page{"SocHot", board.name}], crossed[page{"Throttled", board.name}] = c.reaches(hotAt), c.reaches(throttledAt)
		} else {
			crossed[page{"UnderVoltage", board.name}] = at
			running.Go(func() {
				select {
				case <-time.After(time.Until(at)):
					c.wake <- struct{}{}
				case <-ctx.Done():
				}
			})
		}
		one, err := sensor.New(sensor.Options{Board: board.name, URL: "nats://" + s.nats, Pin: pin, Key: keys[i], Sources: []sensor.Source{c}, Wake: c.wake,
			Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		running.Go(func() {
			if err := one.Run(ctx); err != nil {
				b.Error(err)
			}
		})
	}
	deadline := time.After(time.Until(start) + spread + 2*time.Minute + patience)
	for b.Loop() {
		for len(paged) < len(crossed) {
			select {
			case p := <-arrived:
				if _, wanted := crossed[p]; wanted && paged[p].IsZero() {
					paged[p] = time.Now()
				}
			case <-deadline:
				b.Fatalf("%d of %d crossings are paged", len(paged), len(crossed))
			}
		}
	}
	took := map[string][]time.Duration{}
	for p, at := range crossed {
		took[p.alert] = append(took[p.alert], paged[p].Sub(at))
	}
	for alert, most := range map[string]time.Duration{"SocHot": 3 * time.Second, "Throttled": 2 * time.Second, "UnderVoltage": 2 * time.Second} {
		b.ReportMetric(percentile(took[alert], 50), alert+"-p50-ms")
		b.ReportMetric(percentile(took[alert], 99), alert+"-p99-ms")
		if p99 := percentile(took[alert], 99); p99 > float64(most.Milliseconds()) {
			b.Errorf("%s: crossing to page p99 %.0f ms, %v are promised", alert, p99, most)
		}
	}
}

// BenchmarkTwentyFourBoards measures a collector's cost while 24 boards
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
