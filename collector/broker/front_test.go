package broker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

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
	if limit := boardBurst + int(boardRate*elapsed.Seconds()) + relayBuffer; flooded > limit {
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

// linkLocal is a client on a link-local address.
type linkLocal struct{ net.Conn }

func (linkLocal) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 7, Zone: "eth0"}
}

func TestLinkLocalClientIsFoundAgain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, _ := net.Pipe()
	defer client.Close()
	d := &door{target: l.Addr().String(), proxied: true}
	server, seen, err := d.dial(tcpPair{linkLocal{client}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if want := addressKey("tcp6", "[fe80::1]:7"); seen != want {
		t.Errorf("seen as %s, want %s", seen, want)
	}
}

// tcpPair has a local TCP address.
type tcpPair struct{ net.Conn }

func (tcpPair) LocalAddr() net.Addr {
	return &net.TCPAddr{IP: net.ParseIP("fe80::2"), Port: 8, Zone: "eth0"}
}

func TestStrangerIsShownOut(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := listenFront("127.0.0.1:0", "127.0.0.1:0", newMetrics(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	f.patience = 5 * time.Second // in which the board must be admitted, also on a busy machine
	f.serve(l.Addr().String(), l.Addr().String())
	var clients []net.Conn
	var servers []*bufio.Reader
	arrives := func(i int) {
		t.Helper()
		if _, err := io.WriteString(clients[i], "hello\n"); err != nil {
			t.Fatal(err)
		}
		for line := ""; line != "hello\n"; { // behind the PROXY header, where there is one
			if line, err = servers[i].ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, d := range f.doors {
		c, err := net.Dial("tcp", d.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		clients, servers = append(clients, c), append(servers, bufio.NewReader(s))
		arrives(i)
		if i == 0 {
			if _, err := f.admit(clientAddr{c.LocalAddr()}, "b1", false); err != nil {
				t.Error(err)
			}
		}
	}
	if err := clients[1].SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := clients[1].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("stranger: %v", err)
	}
	arrives(0) // the board came before, and stays
}

// clientAddr is an address as a PROXY header gives it.
type clientAddr struct{ net.Addr }

func (clientAddr) Network() string { return "tcp4" }

func TestAllowance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(1000, 5000)
		f := func(n int, want time.Duration) {
			t.Helper()
			if got := max(0, b.take(n)); got != want {
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

// BenchmarkIdleConnection reports the cost of a silent connection in the front; the benchmark's own
// two ends of it are in the figure.
func BenchmarkIdleConnection(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	f, err := listenFront("127.0.0.1:0", "", newMetrics(), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer f.close()
	f.serve(l.Addr().String())
	const n = 200
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var ends []net.Conn
		for range n {
			c, err := net.Dial("tcp", f.doors[0].listener.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			s, err := l.Accept()
			if err != nil {
				b.Fatal(err)
			}
			ends = append(ends, c, s)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse)/n, "B/connection")
		for _, c := range ends {
			c.Close()
		}
	}
}
