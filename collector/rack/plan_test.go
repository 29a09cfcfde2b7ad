package rack

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bramble/pisensor/report"
	"bramble/pisensor/sim"
)

func TestPlan(t *testing.T) {
	f := func(n, ports, racks int) {
		t.Helper()
		plan := Plan(n, 1)
		names, bySwitch, byRack := map[string]bool{}, map[string]int{}, map[string]bool{}
		for _, p := range plan {
			if err := report.ValidateBoard(p.Board); err != nil {
				t.Error(err)
			}
			if sim.ModelNamed(p.Model) == nil {
				t.Errorf("%s is a %q, which does not exist", p.Board, p.Model)
			}
			for label, value := range p.Labels() {
				if value == "" {
					t.Errorf("%s has no %s", p.Board, label)
				}
			}
			names[p.Board] = true
			bySwitch[p.Switch]++
			byRack[p.Rack] = true
		}
		if len(names) != n || len(byRack) != racks {
			t.Errorf("%d boards: %d names in %d racks, want %d racks", n, len(names), len(byRack), racks)
		}
		for s, boards := range bySwitch {
			if boards > ports {
				t.Errorf("%d boards: %d of them on switch %s, want at most %d", n, boards, s, ports)
			}
		}
	}
	f(0, 0, 0)
	f(1, 4, 1)
	f(24, 4, 3)
	f(100, 12, 3)
	f(1000, 48, 3)
	f(10_000, 48, 27)
	if got := Plan(24, 1)[14].Board; got != "r2-b-03" {
		t.Errorf("fifteenth board is %s, want r2-b-03", got)
	}
	if cmp.Equal(Plan(24, 1), Plan(24, 2), cmpopts.EquateComparable(Placement{})) {
		t.Error("the seed changes nothing")
	}
}

func TestPlanOfTheDemoHasEveryModel(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Plan(24, 1) {
		seen[p.Model] = true
	}
	for _, m := range sim.Models {
		if !seen[m.Name] {
			t.Errorf("no %s among 24 boards", m.Name)
		}
	}
}

// Without faults nobody is paged: no board comes near 80 °C on any day.
func TestHealthyRacksStayCool(t *testing.T) {
	for seed := uint64(1); seed <= 2; seed++ {
		for _, p := range Plan(48, seed) {
			b := p.board(&Options{Start: start})
			hottest := 0.0
			for at := start; at.Before(start.Add(24 * time.Hour)); at = at.Add(10 * time.Second) {
				b.Advance(at)
				s := b.State()
				hottest = max(hottest, s.SoC)
				if s.Throttled&7 != 0 {
					t.Fatalf("seed %d: %s (%s) has throttle bits %04b at %v", seed, p.Board, p.Model, s.Throttled, at)
				}
			}
			if hottest > 75 {
				t.Errorf("seed %d: %s (%s) reaches %.1f °C", seed, p.Board, p.Model, hottest)
			}
		}
	}
}

// Racks differ by their air, which the customers' loads do not hide.
func TestAmbientGradient(t *testing.T) {
	for rack := range 3 {
		if ambient(rack, 0) >= ambient(rack, 1) || ambient(rack, 0) >= ambient(rack+1, 0) {
			t.Error(fmt.Sprint("rack ", rack, " is not warmer at its top, or than the one before"))
		}
	}
}
