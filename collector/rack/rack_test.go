package rack

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"

	"bramble/pisensor/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestUplink(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u := newUplink("r1-a")
	conn, err := u.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()

	u.unplug()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read from a dead switch: %v", err)
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read at the far end: %v", err)
	}
	if _, err := u.Dial("tcp", l.Addr().String()); !errors.Is(err, errUnplugged) {
		t.Errorf("dial through a dead switch: %v", err)
	}
	u.plug()
	again, err := u.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil || len(u.conns) != 0 {
		t.Errorf("after the close: %v, %d connections", err, len(u.conns))
	}
}

// collector answers boards as the real one does: with its time, and with an
// ack for each tick. It keeps which ticks came, by board.
type collector struct {
	keys map[string]Identity

	mu      sync.Mutex
	ticks   map[string]map[uint64]bool // by number
	lastAt  map[string]int64
	arrived chan struct{}
}

func startCollector(t testing.TB, boards []Placement) *collector {
	t.Helper()
	c := &collector{keys: map[string]Identity{}, ticks: map[string]map[uint64]bool{}, lastAt: map[string]int64{}, arrived: make(chan struct{}, 1)}
	o := &server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true}
	for _, p := range boards {
		key, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		public, err := key.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		o.Nkeys = append(o.Nkeys, &server.NkeyUser{Nkey: public})
		c.keys[p.Board] = Identity{Key: key}
	}
	o.Users = []*server.User{{Username: "collector", Password: "loopback"}}
	ns, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("no server")
	}
	for name, id := range c.keys {
		id.URL = ns.ClientURL()
		c.keys[name] = id
	}
	conn, err := nats.Connect(ns.ClientURL(), nats.UserInfo("collector", "loopback"), nats.Timeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if _, err := conn.Subscribe(report.AllTelemetry, func(m *nats.Msg) { c.take(t, conn, m) }); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *collector) take(t testing.TB, conn *nats.Conn, m *nats.Msg) {
	name, _ := report.BoardOf(m.Subject)
	var r report.Report
	a := report.Ack{Time: time.Now().UnixMilli()}
	if h, err := report.DecodeHello(m.Data); err == nil {
		a.Session, a.Nonce = h.Session, h.Nonce
	} else if err := r.Decode(m.Data); err != nil {
		t.Errorf("%s sent nonsense: %v", name, err)
		return
	} else {
		a.Session, a.Ranges = r.Session, []report.Range{{First: r.First, Count: uint64(r.Ticks())}}
	}
	c.keep(name, &r)
	if err := conn.Publish(report.AckSubject(name), a.Append(nil)); err != nil && !conn.IsClosed() { // closed when the test is over
		t.Error(err)
	}
}

func (c *collector) keep(name string, r *report.Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ticks[name] == nil {
		c.ticks[name] = map[uint64]bool{}
	}
	for i := range r.Ticks() {
		c.ticks[name][r.First+uint64(i)] = true
		c.lastAt[name] = max(c.lastAt[name], r.At(i))
	}
	select {
	case c.arrived <- struct{}{}:
	default:
	}
}

// until waits for messages until ok, which is called with the lock held.
func (c *collector) until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		c.mu.Lock()
		done := ok()
		c.mu.Unlock()
		if done {
			return
		}
		select {
		case <-c.arrived:
		case <-deadline:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// The daemon's own code runs on each board; a switch that goes away takes its
// boards' reports away, and brings all of them later.
func TestBoardsDeliverWhatASwitchHeldBack(t *testing.T) {
	plan := Plan(8, 1)
	c := startCollector(t, plan)
	r := New(Options{Placements: plan, Interval: 200 * time.Millisecond, Log: quiet})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx, c.keys); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer cancel()

	c.until(t, "ticks of all boards", func() bool { return c.all(plan, 2) })
	cut := r.uplinks["r1-a"]
	cut.unplug()
	var gone time.Time
	c.until(t, "the other switch's boards to go on", func() bool {
		if gone.IsZero() {
			gone = time.Now()
		}
		return c.lastAt["r1-b-01"] > gone.Add(2*time.Second).UnixMilli()
	})
	if last := time.UnixMilli(c.last("r1-a-01")); last.After(gone.Add(500 * time.Millisecond)) {
		t.Errorf("a board behind the dead switch reported %v after its end", last.Sub(gone))
	}
	cut.plug()
	back := time.Now()
	c.until(t, "the boards to come back and deliver their past", func() bool {
		for _, p := range plan {
			if c.lastAt[p.Board] < back.UnixMilli() || !c.complete(p.Board) {
				return false
			}
		}
		return true
	})
}

func (c *collector) all(plan []Placement, ticks int) bool {
	for _, p := range plan {
		if len(c.ticks[p.Board]) < ticks {
			return false
		}
	}
	return true
}

func (c *collector) last(board string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastAt[board]
}

// complete reports whether no tick is missing between a board's first and last.
func (c *collector) complete(board string) bool {
	first, last := uint64(math.MaxUint64), uint64(0)
	for n := range c.ticks[board] {
		first, last = min(first, n), max(last, n)
	}
	return len(c.ticks[board]) > 0 && last-first+1 == uint64(len(c.ticks[board]))
}
