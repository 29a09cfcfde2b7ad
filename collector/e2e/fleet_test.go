package e2e

import (
	"crypto/tls"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"bramble/collector/broker"
	"bramble/collector/registry"
	"bramble/pisensor/report"
)

// fleet are boards that speak the wire contract by themselves, many of them from
// one process. Each keeps its unacknowledged reports and knows all that it sent.
type fleet struct {
	t      testing.TB
	server *server
	boards []*wired
}

type wired struct {
	name string
	conn *nats.Conn

	mu      sync.Mutex
	unacked map[uint64]kept
	next    uint64
	sent    map[int64]float64 // time → °C, for ever
}

// kept is a report that is not acknowledged.
type kept struct {
	data []byte
	at   time.Time // of its first publication
}

// fleetSession is the session of every board of a fleet.
const fleetSession = 7

// newFleet enrols boards in the data of a server that does not run yet, one by
// one as their tokens would, and returns them unconnected. They share nothing:
// the pages of one are its own.
func newFleet(t testing.TB, s *server, n int) (*fleet, []nkeys.KeyPair) {
	t.Helper()
	return newFleetIn(t, s, n, func(int) map[string]string { return nil })
}

// newFleetIn gives each board labels, as of the rack that it shares with others.
func newFleetIn(t testing.TB, s *server, n int, labels func(i int) map[string]string) (*fleet, []nkeys.KeyPair) {
	t.Helper()
	db, err := registry.OpenDB(filepath.Join(s.dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	boards, err := registry.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	pin, err := broker.PinOf(s.dir) // boards are enrolled with a collector's authority
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, server: s}
	keys := make([]nkeys.KeyPair, n)
	for i := range keys {
		if keys[i], err = nkeys.CreateUser(); err != nil {
			t.Fatal(err)
		}
		public, err := keys[i].PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("b%04d", i)
		if err := boards.AddBoard(t.Context(), name, labels(i)); err != nil {
			t.Fatal(err)
		}
		token, err := boards.NewBoardToken(t.Context(), name, pin)
		if err != nil {
			t.Fatal(err)
		}
		e, err := boards.Enrol(t.Context(), report.EnrolRequest{Token: token.Credentials(), Key: public})
		if err != nil {
			t.Fatal(err)
		}
		f.boards = append(f.boards, &wired{name: e.Board, unacked: map[uint64]kept{}, sent: map[int64]float64{}})
	}
	return f, keys
}

// connect has every board connect, and again whenever the server comes back.
func (f *fleet) connect(keys []nkeys.KeyPair, acked func(took time.Duration)) {
	f.t.Helper()
	for i, b := range f.boards {
		public, err := keys[i].PublicKey()
		if err != nil {
			f.t.Fatal(err)
		}
		b.conn, err = nats.Connect("nats://"+f.server.nats, nats.Nkey(public, keys[i].Sign), nats.Secure(&tls.Config{InsecureSkipVerify: true}),
			nats.Timeout(patience), nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond), nats.ReconnectBufSize(-1))
		if err != nil {
			f.t.Fatal(err)
		}
		f.t.Cleanup(b.conn.Close)
		if _, err := b.conn.Subscribe(report.AckSubject(b.name), func(m *nats.Msg) { b.ack(m.Data, acked) }); err != nil {
			f.t.Fatal(err)
		}
		if err := b.conn.FlushTimeout(patience); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (b *wired) ack(data []byte, acked func(time.Duration)) {
	a, err := report.DecodeAck(data)
	if err != nil || a.Session != fleetSession {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range a.Ranges {
		for seq, k := range b.unacked {
			if seq >= r.First && seq < r.First+r.Count {
				delete(b.unacked, seq)
				if acked != nil {
					acked(time.Since(k.at))
				}
			}
		}
	}
}

// report publishes one reading of one time. A connection that is away is no
// failure: the board sends again.
func (b *wired) report(at time.Time, celsius float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := report.Report{Session: fleetSession, First: b.next, Anchor: at.UnixMilli(), Due: 60_000, Elapsed: []int64{0}}
	r.Column(report.Series{Metric: report.SOCTemperature})[0] = int64(celsius * 1000)
	data := r.Append(nil)
	b.unacked[b.next] = kept{data, time.Now()}
	b.next++
	b.sent[at.UnixMilli()] = float64(int64(celsius*1000)) / 1000
	_ = b.conn.Publish(report.TelemetrySubject(b.name), data)
}

// again sends the unacknowledged reports, of each board the oldest reports and no more than a sensor would at a time.
func (f *fleet) again() {
	const atATime = 20
	for _, b := range f.boards {
		b.mu.Lock()
		for i, seq := range slices.Sorted(maps.Keys(b.unacked)) {
			if i == atATime {
				break
			}
			_ = b.conn.Publish(report.TelemetrySubject(b.name), b.unacked[seq].data)
		}
		b.mu.Unlock()
	}
}

// unacked returns how many reports are not acknowledged.
func (f *fleet) unacked() (n int) {
	for _, b := range f.boards {
		b.mu.Lock()
		n += len(b.unacked)
		b.mu.Unlock()
	}
	return n
}

// count returns how many readings were sent.
func (f *fleet) count() (n int) {
	for _, b := range f.boards {
		n += len(b.sent)
	}
	return n
}

// settled waits until all is acknowledged; the rest is sent again now and then.
func (f *fleet) settled(within time.Duration) {
	f.t.Helper()
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	eventually(f.t, within, func() error {
		select {
		case <-tick.C:
			f.again()
		default:
		}
		if n := f.unacked(); n > 0 {
			return fmt.Errorf("%d reports are not acknowledged", n)
		}
		return nil
	})
}

// compare counts the readings of the fleet that the store lacks, has twice, or has otherwise. raw looks at what is stored
// before deduplication, where replayed readings may stand twice until it is merged.
func (f *fleet) compare(raw bool) (lost, doubled, wrong int, err error) {
	series, err := f.server.export(`pi_soc_temperature_celsius{board=~"b[0-9]+"}`, raw)
	if err != nil {
		return 0, 0, 0, err
	}
	found := map[string]map[int64]int{}
	for _, one := range series {
		times := found[one.Metric["board"]]
		if times == nil {
			times = map[int64]int{}
			found[one.Metric["board"]] = times
		}
		for i, at := range one.Timestamps {
			times[at]++
			if b := f.board(one.Metric["board"]); b == nil || b.sent[at] != one.Values[i] {
				wrong++
			}
		}
	}
	for _, b := range f.boards {
		for at := range b.sent {
			switch n := found[b.name][at]; {
			case n == 0:
				lost++
			case n > 1 && !raw:
				doubled++
			}
		}
	}
	return lost, doubled, wrong, nil
}

func (f *fleet) board(name string) *wired {
	i := slices.IndexFunc(f.boards, func(b *wired) bool { return b.name == name })
	if i < 0 {
		return nil
	}
	return f.boards[i]
}

// complete waits until the store holds every reading once and none beside.
func (f *fleet) complete(within time.Duration) {
	f.t.Helper()
	eventually(f.t, within, func() error {
		for _, raw := range []bool{false, true} {
			lost, doubled, wrong, err := f.compare(raw)
			if err == nil && lost+doubled+wrong > 0 {
				err = fmt.Errorf("of %d readings %d are lost, %d doubled, %d wrong (raw %v)", f.count(), lost, doubled, wrong, raw)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	f.t.Logf("%d readings of %d boards: 0 lost, 0 doubled, 0 wrong", f.count(), len(f.boards))
}
