package broker

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// Where descriptors are short strangers give way, the oldest first, boards that
// are connected stay, and one that comes again gets in.
func TestBoardsKeepTheirPlacesBeforeStrangers(t *testing.T) {
	const enough = 5 // one of them for strangers alone
	r := newRigWith(t, t.TempDir(), "127.0.0.1:0", func(int) int { return enough })
	var strangers []net.Conn
	for range 3 * enough {
		c, err := net.Dial("tcp", strings.TrimPrefix(r.URL(), "nats://"))
		r.must(err)
		defer c.Close()
		strangers = append(strangers, c)
	}
	r.must(strangers[0].SetReadDeadline(time.Now().Add(patience)))
	if _, err := io.Copy(io.Discard, strangers[0]); isTimeout(err) {
		t.Error("the oldest stranger keeps its place")
	}
	var boards []*nats.Conn
	nc, _, pair := r.board("b0")
	boards = append(boards, nc)
	for _, name := range []string{"b1", "b2", "b3"} {
		nc, _, _ := r.board(name)
		boards = append(boards, nc)
	}
	r.must(r.registry.AddBoard(t.Context(), "late", nil))
	if nc, err := r.tryBoard("late"); err == nil {
		nc.Close()
		t.Error("one board too many is let in")
	}
	closed := boards[0].StatusChanged(nats.CLOSED)
	again, _, err := r.dial(withKey(pair)) // as after a power cut
	r.must(err)
	receive(t, closed, "end of the older connection")
	boards[0] = again
	for range 2 * enough {
		c, err := net.Dial("tcp", strings.TrimPrefix(r.WebSocketURL(), "wss://"))
		r.must(err)
		defer c.Close()
	}
	for i, nc := range boards {
		if err := nc.FlushTimeout(patience); err != nil {
			t.Errorf("b%d: %v", i, err)
		}
	}
	// The front counts when a connection has ended, which may be after the board has seen the end.
	for who, minimum := range map[string]float64{"stranger": 2 * enough, "board": 1} {
		r.waitFor("refused connections of a "+who, func() bool {
			return r.counted("bramble_broker_refused_connections_total", who) >= minimum
		})
	}
	r.waitFor("4 boards connected", func() bool { return r.counted("bramble_broker_boards_connected", "") == 4 })
	boards[1].Close() // space for another one
	r.waitFor("the late board's place", func() bool {
		nc, err := r.tryBoard("late")
		if err != nil {
			return false
		}
		nc.Close()
		return true
	})
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// The log says once that connections are refused, and once that they no longer are.
func TestRefusalsAreSaidOnce(t *testing.T) {
	log := &strings.Builder{}
	f, err := listenFront("127.0.0.1:0", "", newMetrics(), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	none := func(int) int { return 0 }
	f.countPlaces(none)
	for i := range 10 + 2*int(calmTime/placesEvery) {
		if (i == 3 || i == 5) && f.take() {
			t.Error("a place where there is none")
		}
		f.reportPlaces(none)
	}
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "LimitNOFILE") {
		t.Errorf("the log:\n%s", log)
	}
}
