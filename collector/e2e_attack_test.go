package main

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"bramble/pisensor/report"
)

// attacker is a board's owner, who has its key.
type attacker struct {
	*nats.Conn
	refused chan error // what the server does not allow
}

func (s *server) attack(b board) *attacker {
	s.t.Helper()
	return s.attackAt("nats://"+s.nats, b)
}

func (s *server) attackAt(url string, b board) *attacker {
	s.t.Helper()
	seed, err := os.ReadFile(filepath.Join(b.state, "board.nk"))
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := nkeys.FromSeed(seed[:len(seed)-1])
	if err != nil {
		s.t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		s.t.Fatal(err)
	}
	a := &attacker{refused: make(chan error, 100)}
	a.Conn, err = nats.Connect(url, nats.Nkey(public, key.Sign), nats.Secure(&tls.Config{InsecureSkipVerify: true}),
		nats.Timeout(patience), nats.NoReconnect(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { a.refused <- err }))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(a.Close)
	return a
}

// send publishes and waits until the server has it.
func (a *attacker) send(t testing.TB, subject string, data []byte) {
	t.Helper()
	if err := errors.Join(a.Publish(subject, data), a.FlushTimeout(patience)); err != nil {
		t.Fatalf("publish %d bytes on %s: %v", len(data), subject, err)
	}
}

// denied waits for a permissions violation.
func (a *attacker) denied(t testing.TB, what string) {
	t.Helper()
	select {
	case err := <-a.refused:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: %v", what, err)
		}
	case <-time.After(patience):
		t.Errorf("%s is allowed", what)
	}
}

// warmReport is a report of one tick at a time.
func warmReport(session uint32, at time.Time, celsius float64) []byte {
	r := report.Report{Session: session, Anchor: at.UnixMilli(), Due: 10_000, Elapsed: []int64{0}}
	r.Column(report.Series{Metric: report.SOCTemperature})[0] = int64(celsius * 1000)
	return r.Append(nil)
}

// TestABoardsOwnerAttacks sends what no sensor sends.
func TestABoardsOwnerAttacks(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	mine, victim := s.enrol("mine", s.nats), s.enrol("victim", s.nats)
	a := s.attack(mine)
	rises := func(reason string, by float64, do func()) {
		t.Helper()
		before := s.rejected(reason)
		do()
		eventually(t, patience, func() error {
			if got := s.rejected(reason); got != before+by {
				return fmt.Errorf("%s: %v reports rejected, want %v", reason, got-before, by)
			}
			return nil
		})
	}
	garbage := make([]byte, 500)
	rand.Read(garbage)
	good := warmReport(1, time.Now(), 51.5)
	telemetry := report.TelemetrySubject("mine")
	rises("undecodable", 4, func() {
		for _, b := range [][]byte{nil, {0x11}, good[:len(good)-2], append([]byte{0x11}, garbage...)} {
			a.send(t, telemetry, b)
		}
	})
	rises("oversized", 1, func() { a.send(t, telemetry, make([]byte, report.MaxSize+1)) })
	a.send(t, telemetry, good)
	rises("replayed", 2, func() { a.send(t, telemetry, good); a.send(t, telemetry, good) })
	rises("outside_window", 2, func() {
		a.send(t, telemetry, warmReport(2, time.Now().Add(-30*24*time.Hour), 50))
		a.send(t, telemetry, warmReport(3, time.UnixMilli(1000), 50))
	})
	a.send(t, telemetry, warmReport(4, time.Now().Add(24*time.Hour), 99)) // ahead: not acknowledged, not stored
	a.trespass(t)
	a.send(t, telemetry, warmReport(5, time.Now(), 52.5))
	s.holds("mine", 51.5, 52.5)
	s.holds("victim")
	var known struct {
		Rejected map[string]uint64
	}
	want := map[string]uint64{"undecodable": 4, "oversized": 1, "outside_window": 3, "too_old": 2, "too_far_ahead": 1}
	if err := s.json("api/boards/mine", &known); err != nil || !maps.Equal(known.Rejected, want) {
		t.Errorf("api/boards/mine: rejected %v, %v; want %v", known.Rejected, err, want)
	}
	if n := s.metric(`bramble_board_reports_rejected_total{board="mine",reason="undecodable"}`); n != 4 {
		t.Errorf("%v undecodable reports of the board on /metrics", n)
	}

	s.replayed(victim, understand(t, "single", "t_s,temp_c\n0,44.4\n"))
}

// trespass tries what belongs to others.
func (a *attacker) trespass(t testing.TB) {
	t.Helper()
	for _, subject := range []string{"telemetry.victim", "ack.victim", "control.victim", "ack.mine", "control.mine", "enrol", "enrol.x", "$SYS.x", "_INBOX.x"} {
		a.send(t, subject, warmReport(9, time.Now(), 99))
		a.denied(t, "publishing "+subject)
	}
	for _, subject := range []string{">", "*", "telemetry.>", "telemetry.mine", "telemetry.victim", "ack.*", "ack.victim", "control.>", "enrol.>", "_INBOX.>", "$SYS.>"} {
		if _, err := a.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		a.denied(t, "subscribing "+subject)
	}
}

// holds wants exactly these temperatures of a board in the store.
func (s *server) holds(name string, want ...float64) {
	s.t.Helper()
	eventually(s.t, patience, func() error {
		series, err := s.export(fmt.Sprintf("pi_soc_temperature_celsius{board=%q}", name), false)
		if err != nil {
			return err
		}
		var got []float64
		for _, one := range series {
			got = append(got, one.Values...)
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("board %s: %v, want %v", name, got, want)
		}
		return nil
	})
}
