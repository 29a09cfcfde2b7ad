package broker

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"

	"bramble/pisensor/report"
)

// flood publishes as fast as it can until the connection ends.
func flood(ctx context.Context, nc *nats.Conn, subject string, done chan<- struct{}) {
	defer close(done)
	payload := make([]byte, 4<<10)
	for ctx.Err() == nil && nc.Publish(subject, payload) == nil {
	}
}

func TestFloodIsHeldBackAndSlowsNobodyDown(t *testing.T) {
	t.Run("nats", func(t *testing.T) { floodIsHeldBack(t, newRig(t, t.TempDir())) })
	t.Run("wss", func(t *testing.T) {
		r := newRig(t, t.TempDir())
		r.at = r.WebSocketURL()
		floodIsHeldBack(t, r)
	})
}

func floodIsHeldBack(t *testing.T, r *rig) {
	evil, _, pair := r.board("evil")
	var others []*nats.Conn
	for i := range 5 {
		nc, _, _ := r.board(fmt.Sprintf("b%d", i))
		others = append(others, nc)
	}
	arrived, flooded := make(chan string, 100), 0
	sub, err := r.Conn().Subscribe(report.AllTelemetry, func(m *nats.Msg) {
		if m.Subject == "telemetry.evil" {
			flooded += len(m.Data)
			return
		}
		arrived <- m.Subject
	})
	r.must(err)
	drained := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(drained) })
	r.must(r.Conn().Flush())
	start := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := []chan struct{}{make(chan struct{}), make(chan struct{})}
	go flood(ctx, evil, "telemetry.evil", ended[0])
	var took []time.Duration
	for round := range 100 {
		if round == 50 { // coming back gains nothing
			again, _, err := r.dial(withKey(pair))
			r.must(err)
			go flood(ctx, again, "telemetry.evil", ended[1])
			defer again.Close()
		}
		nc, begin := others[round%5], time.Now()
		r.must(nc.Publish(fmt.Sprintf("telemetry.b%d", round%5), make([]byte, 300)))
		r.must(nc.FlushTimeout(5 * time.Second))
		receive(t, arrived, "another board's report")
		took = append(took, time.Since(begin))
		time.AfterFunc(20*time.Millisecond, func() { arrived <- "pause" })
		receive(t, arrived, "pause")
	}
	elapsed := time.Since(start)
	cancel()
	evil.Close()
	r.Disconnect("evil")
	for _, e := range ended {
		receive(t, e, "end of the flood")
	}
	r.must(sub.Drain())
	receive(t, drained, "end of the subscription")
	slices.Sort(took)
	t.Logf("others: median %v, worst %v; flood: %d kB in %v", took[50], took[99], flooded>>10, elapsed)
	if took[90] > time.Second { // single ones wait for a busy machine, all of them for a flood
		t.Errorf("one in ten reports of other boards waited %v", took[90])
	}
	if limit := boardBurst + int(boardRate*elapsed.Seconds()) + pieceSize; flooded > limit {
		t.Errorf("%d bytes of the flood arrived, want at most %d", flooded, limit)
	}
	if flooded < boardBurst/2 {
		t.Errorf("%d bytes of the flood arrived: it was none", flooded)
	}
}

func TestServerAdvertisesNoAddress(t *testing.T) {
	r := newRig(t, t.TempDir())
	for i, url := range []string{r.URL(), r.WebSocketURL()} {
		r.at = url
		nc, _, _ := r.board(fmt.Sprint("b", i))
		if urls := nc.DiscoveredServers(); len(urls) != 0 {
			t.Errorf("boards are told to try %q", urls)
		}
		if a := nc.ConnectedUrl(); a != url {
			t.Errorf("connected to %s, want %s", a, url)
		}
	}
}

// A stranger who does not log in is told so and goes; a board stays.
func TestStrangerIsShownOut(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir())
	board, _, _ := r.board("b1")
	r.front.mu.Lock()
	r.front.login = time.Second
	r.front.mu.Unlock()
	c, err := net.Dial("tcp", strings.TrimPrefix(r.URL(), "nats://"))
	r.must(err)
	defer c.Close()
	r.must(c.SetDeadline(time.Now().Add(patience)))
	_, err = bufio.NewReader(c).ReadString('\n') // the greeting
	r.must(err)
	text, err := io.ReadAll(tls.Client(c, &tls.Config{InsecureSkipVerify: true}))
	if string(text) != "-ERR 'Authentication Timeout'\r\n" || err != nil {
		t.Errorf("a stranger gets %q, %v", text, err)
	}
	r.must(board.Flush())
}

func TestAllowance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := rate.NewLimiter(1000, 5000)
		f := func(n int, want time.Duration) {
			t.Helper()
			if got := debt(b, n); got != want {
				t.Errorf("%d bytes wait %v, want %v", n, got, want)
			}
		}
		f(5000, 0)
		f(1000, time.Second)
		f(500, 1500*time.Millisecond)
		time.Sleep(2500 * time.Millisecond) // fake time
		f(1000, 0)
		time.Sleep(time.Hour)
		f(5000, 0)
		f(1, time.Millisecond)
	})
}
