package main

import (
	"math/rand/v2"
	"testing"
	"time"
)

// kills is how often a collector is killed in the middle of its work.
const kills = 10

// TestKilledAgainAndAgain kills the collector at random moments while boards
// replay: the replays ride it out, and every reading is there exactly once.
func TestKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	boards := []board{s.enrol("pi-1", s.nats, "rack=r1"), s.enrol("pi-2", s.nats, "rack=r1"), s.enrol("pi-3", s.nats)}
	sent := []*recorded{
		invent(t, "live", 400, every(1_000)),    // 20 s at speed 20
		invent(t, "slow", 100, every(10_000)),   // 20 s at speed 50
		invent(t, "past", 30_000, every(5_000)), // more than one report, as fast as it goes
	}
	speeds := []float64{20, 50, 1}
	replays := []*process{
		boards[0].replay(t, sent[0], "--speed", "20"), boards[1].replay(t, sent[1], "--speed", "50"), boards[2].replay(t, sent[2]),
	}
	for i := range kills {
		longest := []int{300, 1500, 3000}[i%3] // ms
		after(t, time.Duration(rand.IntN(longest))*time.Millisecond)
		s.kill()
		s.start()
	}
	for i, p := range replays {
		if code := p.exit(t, 2*patience); code != 0 {
			t.Errorf("replay %d: exit %d: %s", i, code, p.errs)
		}
	}
	check := func(when string) {
		t.Helper()
		for i, b := range boards {
			s.returned(b, sent[i], speeds[i])
		}
		t.Logf("%s: %d readings are there once", when, sent[0].readings()+sent[1].readings()+sent[2].readings())
	}
	check("after the replays")
	s.kill() // what was acknowledged last must be there too
	s.start()
	check("after one more kill")
	if code := s.stop(t, patience); code != 0 {
		t.Errorf("stop: exit %d: %s", code, s.errs)
	}
	s.start()
	check("after a clean stop")
}
