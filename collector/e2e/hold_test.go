package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// holdTime is how long acks are held back. BRAMBLE_HOLD sets another one, such as 60s.
func holdTime(t testing.TB) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(os.Getenv("BRAMBLE_HOLD"))
	if err != nil {
		return 5 * time.Second
	}
	return d
}

// proxy passes TCP connections on. The collector's bytes on those that are
// open at a hold wait for the release; new ones pass.
type proxy struct {
	address, target string
	patient         int64 // holds a connection once the board has sent so many bytes; 0 = only when asked to

	mu    sync.Mutex
	gates map[*held]bool
}

// held is one connection's way from the collector to the board.
type held struct {
	mu   sync.Mutex
	open chan struct{} // closed while bytes may pass
}

// shut closes the gate. Connections at it already wait on.
func (h *held) shut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.open:
		h.open = make(chan struct{})
	default:
	}
}

func (h *held) gate() chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open
}

func newProxy(t testing.TB, target string, patient int64) *proxy {
	t.Helper()
	l, err := newListener("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{address: l.Addr().String(), target: target, patient: patient, gates: map[*held]bool{}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.pass(t, c) })
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
	return p
}

func (p *proxy) pass(t testing.TB, board net.Conn) {
	defer board.Close()
	collector, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer collector.Close()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-t.Context().Done():
		case <-stop:
		}
		board.Close()
		collector.Close()
	}()
	h := &held{open: make(chan struct{})}
	close(h.open)
	p.add(h, true)
	defer p.add(h, false)
	var up sync.WaitGroup
	up.Go(func() { // either end may be gone
		defer board.Close()
		defer collector.Close()
		if p.patient > 0 {
			_, _ = io.CopyN(collector, board, p.patient)
			h.shut()
		}
		_, _ = io.Copy(collector, board)
	})
	h.copy(t, board, collector)
	board.Close()
	up.Wait()
}

func (p *proxy) add(h *held, here bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if here {
		p.gates[h] = true
	} else {
		delete(p.gates, h)
	}
}

// copy passes bytes on while the gate is open. Both ends may be gone at any time.
func (h *held) copy(t testing.TB, to io.Writer, from io.Reader) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		select {
		case <-h.gate():
		case <-t.Context().Done():
			return
		}
		if err != nil {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// hold stops the collector's bytes on the connections that are open now, and
// returns how many there are.
func (p *proxy) hold() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for h := range p.gates {
		h.shut()
		n++
	}
	return n
}

func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for h := range p.gates {
		h.mu.Lock()
		select {
		case <-h.open:
		default:
			close(h.open)
		}
		h.mu.Unlock()
	}
}

// releaseAgain opens a proxy that shuts itself, until the test ends.
func releaseAgain(t testing.TB, p *proxy) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.release()
		case <-t.Context().Done():
			return
		}
	}
}

// change is a relabelling, and between which times it was asked for, Unix ms.
type change struct {
	rack          string
	before, after int64
}

func (s *server) relabel(b board, rack string) change {
	s.t.Helper()
	c := change{rack: rack, before: time.Now().UnixMilli()}
	s.do("", "board", "label", b.name, "rack="+rack)
	c.after = time.Now().UnixMilli()
	return c
}

// TestRelabelWhileAcksAreHeld relabels boards whose acks do not arrive, kills
// the collector in between, and wants every reading once, under the labels of
// its time.
func TestRelabelWhileAcksAreHeld(t *testing.T) {
	t.Parallel()
	hold := holdTime(t)
	s := newServer(t, "127.0.0.1")
	p, slow := newProxy(t, s.nats, 0), newProxy(t, s.nats, 20_000)
	live, past := s.enrol("pi-1", p.address, "rack=r1"), s.enrol("pi-2", slow.address, "rack=r1")
	// Long enough for three starts of a program on a busy machine: there must be readings after the last change.
	rows := int((2*hold + 40*time.Second) / (200 * time.Millisecond))
	now, then := invent(t, "now", rows, every(200)), invent(t, "then", 20_000, every(5_000))
	players := []*process{live.replay(t, now, "--speed", "1"), past.replay(t, then)}
	s.grows("pi-1", 0, 1)
	if n := p.hold(); n == 0 {
		t.Error("there is no connection to hold")
	}
	after(t, hold/2)
	changes := []change{s.relabel(live, "r2")}
	s.relabel(past, "r2")
	after(t, hold/2)
	for i, player := range players {
		select {
		case <-player.done:
			t.Errorf("replay %d ended while its acks were held: %s", i, player.errs)
		default:
		}
	}
	s.kill() // held acks are lost for ever
	s.start()
	after(t, 3*time.Second)
	p.hold()
	changes = append(changes, s.relabel(live, "r3"))
	s.relabel(past, "r3")
	after(t, hold)
	p.release()
	go releaseAgain(t, slow)
	for _, player := range players {
		if code := player.exit(t, 2*patience); code != 0 {
			t.Errorf("exit %d: %s", code, player.errs)
		}
	}
	s.returned(live, now, 1)
	s.returned(past, then, 1)
	s.labelled(live, "r1", changes...)
	s.labelled(past, "r1") // all of it is older than the changes
}

// labelled checks that each reading stands under the rack of its time.
func (s *server) labelled(b board, first string, changes ...change) {
	s.t.Helper()
	series, err := s.export(fmt.Sprintf(`{__name__=~"pi_soc.*|pi_cpu.*|pi_load1|pi_core.*",board=%q}`, b.name), true)
	if err != nil {
		s.t.Fatal(err)
	}
	racks := append([]change{{rack: first}}, changes...)
	used := map[string]int{}
	for _, one := range series {
		i := slices.IndexFunc(racks, func(c change) bool { return c.rack == one.Metric["rack"] })
		if i < 0 {
			s.t.Fatalf("board %s: rack %q", b.name, one.Metric["rack"])
		}
		used[racks[i].rack]++
		for _, at := range one.Timestamps {
			if at < racks[i].before || i+1 < len(racks) && at > racks[i+1].after+1000 {
				s.t.Errorf("board %s: a reading at %d stands under %s; changes %+v", b.name, at, racks[i].rack, changes)
				break
			}
		}
	}
	if len(used) != len(racks) {
		s.t.Errorf("board %s: racks %v, want %d of them", b.name, used, len(racks))
	}
}
