package rack

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"bramble/pisensor/report"
)

var start = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

var quiet = slog.New(slog.DiscardHandler)

func demo(boards int, past time.Duration, scenario bool) *Racks {
	return New(Options{Placements: Plan(boards, 1), Start: start, Past: past, Scenario: scenario, Log: quiet})
}

// Each announced time holds, board by board, in the readings themselves.
func TestOpeningFaultsHappenWhenAnnounced(t *testing.T) {
	for _, boards := range []int{4, 24, 100} {
		r := demo(boards, 24*time.Hour, true)
		kinds := map[string]bool{}
		for _, f := range r.scenario.list(start) {
			if f.At.After(start.Add(2 * time.Minute)) {
				continue
			}
			switch {
			case strings.Contains(f.What, "80 °C"):
				kinds["heat"] = true
				first(t, r, f, 1<<2)
			case strings.Contains(f.What, "supply"):
				kinds["sag"] = true
				first(t, r, f, 1)
			default:
				kinds["cut"] = true
			}
		}
		if len(kinds) != 3 {
			t.Errorf("%d boards: within two minutes only %v", boards, kinds)
		}
	}
}

// first checks that a throttle bit of the fault's board comes with the first
// second after the announced time.
func first(t *testing.T, r *Racks, f Fault, bit int64) {
	t.Helper()
	b := r.boards[f.Boards[0]].sim
	for at := start.Add(-10 * time.Minute); ; at = at.Add(time.Second) {
		b.Advance(at)
		s := b.State()
		if s.Throttled&bit == 0 {
			if at.After(f.At.Add(time.Second)) {
				t.Errorf("%s at %v: nothing of it in %+v", f.What, f.At, s)
				return
			}
			continue
		}
		if at.Before(f.At) {
			t.Errorf("%s is announced for %v and comes at %v", f.What, f.At, at)
		}
		if bit != 1 && (s.SoC < 80 || s.Measured >= s.Requested) {
			t.Errorf("throttled without heat: %+v", s)
		}
		return
	}
}

func TestFaultsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{Placements: Plan(24, 1), Scenario: true, Log: quiet})
		ctx, cancel := context.WithCancel(t.Context())
		go r.scenario.run(ctx)
		seen := map[string]int{}
		for range 4 * 60 * 12 {
			time.Sleep(5 * time.Second)
			synctest.Wait()
			for _, f := range r.Faults() {
				now := time.Now()
				seen[f.What] += 0
				if now.Sub(f.At) < 5*time.Second && !now.Before(f.At) {
					seen[f.What]++
				}
				if f.Done == now.Before(f.Until) {
					t.Fatalf("at %v: %+v", now, f)
				}
			}
			checkSwitches(t, r)
		}
		heat := 0
		for what := range seen {
			if strings.Contains(what, "80 °C") {
				heat++
			}
		}
		if len(seen) < 20 || heat < 6 {
			t.Errorf("in four hours %d different faults, %d of them heat: %v", len(seen), heat, seen)
		}
		cancel()
		synctest.Wait()
		for _, u := range r.uplinks {
			if u.isDown() {
				t.Errorf("switch %s stays without power after the end", u.name)
			}
		}
	})
}

// checkSwitches compares each switch with the announced faults.
func checkSwitches(t *testing.T, r *Racks) {
	t.Helper()
	now := time.Now()
	want := map[string]bool{}
	for _, f := range r.Faults() {
		if strings.HasPrefix(f.What, "Switch") && !now.Before(f.At) && now.Before(f.Until) {
			want[strings.Fields(f.What)[1]] = true
		}
	}
	for name, u := range r.uplinks {
		if u.isDown() != want[name] {
			t.Fatalf("at %v switch %s: down is %v", now, name, u.isDown())
		}
	}
}

// The past ends where the present begins: a board whose past was replayed goes on exactly like one
// without a replay.
func TestNoSeamBetweenPastAndPresent(t *testing.T) {
	replayed, fresh := demo(24, 24*time.Hour, true), demo(24, 24*time.Hour, true)
	for name, b := range replayed.boards {
		var last report.Tick
		var lastAt int64
		n := 0
		err := replayed.History(name, start.Add(-48*time.Hour), start.Add(time.Hour), 10*time.Second, func(at int64, tick *report.Tick) {
			last.Readings, lastAt = append(last.Readings[:0], tick.Readings...), at
			n++
		})
		if err != nil || n != 8640 || lastAt != start.Add(-10*time.Second).UnixMilli() {
			t.Fatalf("%s: %d ticks until %d, %v", name, n, lastAt, err)
		}
		var after, without report.Tick
		b.sim.ReadAt(start, &after)
		fresh.boards[name].sim.ReadAt(start, &without)
		if d := cmp.Diff(without, after); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		// 10 s of full load at the worst are 20 °C.
		if d := after.Readings[0].Value - last.Readings[0].Value; d > 20000 || d < -20000 {
			t.Errorf("%s: temperature jumps by %d m°C", name, d)
		}
	}
}

func TestHistoryOfAStranger(t *testing.T) {
	if err := demo(1, 0, false).History("r9-z-01", start, start, time.Second, nil); err == nil {
		t.Error("a board that does not exist has a past")
	}
}

func TestTinyRacksHaveAScenario(t *testing.T) {
	for n := range 4 {
		r := demo(n, 0, true)
		if n == 0 && len(r.scenario.list(start)) != 0 {
			t.Error("something happens to nobody")
		}
	}
}

// Under-voltage is an event of the kernel's: it wakes the daemon.
func TestSagCallsTheDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{Placements: Plan(24, 1), Scenario: true, Log: quiet})
		ctx, cancel := context.WithCancel(t.Context())
		go r.scenario.run(ctx)
		f := r.Faults()[0]
		b := r.boards[f.Boards[0]]
		for _, at := range []time.Time{f.At, f.Until} {
			select {
			case <-b.wake:
			case <-time.After(time.Until(at.Add(2 * time.Second))):
				t.Errorf("nobody woke %s at %v", b.Board, at)
			}
			var tick report.Tick
			b.sim.Read(&tick)
			if sags := tick.Readings[3].Value&1 == 1; sags != at.Equal(f.At) {
				t.Errorf("at %v under-voltage reads %v", time.Now(), sags)
			}
		}
		cancel()
		synctest.Wait()
	})
}
