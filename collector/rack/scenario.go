package rack

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// When faults happen, counted from the start: the first three so that a
// newcomer has seen each kind within two minutes, the others at a calm rhythm.
const (
	firstSag   = 20 * time.Second
	firstCut   = 30 * time.Second
	firstHeat  = 80 * time.Second
	calmAfter  = 2 * time.Minute
	calmRhythm = 10 * time.Minute
	// ahead is how far the future is decided and announced.
	ahead = 3 * calmRhythm

	sagTime  = 60 * time.Second
	cutTime  = 55 * time.Second // silence pages after 30 to 50 s
	heatTime = 90 * time.Second // from the throttling on
)

// Fault is something that happens to the racks.
type Fault struct {
	At, Until time.Time
	What      string // a sentence for people
	Boards    []string
	Done      bool // it is over
}

// Faults returns the past and the announced faults in the order of time, at
// most 32, or none without a scenario.
func (r *Racks) Faults() []Fault {
	if r.scenario == nil {
		return nil
	}
	return r.scenario.list(time.Now())
}

// remembered is how many faults are kept.
const remembered = 32

// scenario plans the faults and their times. run performs its steps.
type scenario struct {
	boards   []*board // in the order of the plan
	switches []*uplink
	start    time.Time
	log      *slog.Logger

	planned int // faults since calmAfter
	turn    int // of the boards
	steps   []step

	switchTurn int

	mu     sync.Mutex
	faults []Fault
}

// step is something to do at a time.
type step struct {
	at time.Time
	do func()
}

func newScenario(r *Racks, start time.Time) *scenario {
	s := &scenario{start: start, log: r.options.Log}
	for _, p := range r.options.Placements {
		b := r.boards[p.Board]
		s.boards = append(s.boards, b)
		if !slices.Contains(s.switches, b.uplink) {
			s.switches = append(s.switches, b.uplink)
		}
	}
	if len(s.boards) > 0 {
		s.overheat(start.Add(firstHeat))
		s.sag(start.Add(firstSag))
		s.cut(start.Add(firstCut))
		s.extend(start)
	}
	return s
}

// extend decides the faults up to ahead from now.
func (s *scenario) extend(now time.Time) {
	for {
		at := s.start.Add(calmAfter + time.Duration(s.planned+1)*calmRhythm)
		if at.After(now.Add(ahead)) {
			return
		}
		kinds := []func(time.Time){s.overheat, s.cut, s.sag}
		kinds[s.planned%len(kinds)](at)
		s.planned++
	}
}

// cut takes the next switch away.
func (s *scenario) cut(at time.Time) {
	u := s.nextSwitch()
	s.do(at, "switch goes away", u.name, u.unplug)
	s.do(at.Add(cutTime), "switch comes back", u.name, u.plug)
	names := s.behind(u)
	s.announce(Fault{
		At: at, Until: at.Add(cutTime), Boards: names,
		What: fmt.Sprintf("Switch %s loses its power: %d boards fall silent, then deliver what they measured.", u.name, len(names)),
	})
}

// nextSwitch prefers a switch none of whose boards has a fault announced.
func (s *scenario) nextSwitch() *uplink {
	for range s.switches {
		s.switchTurn++
		u := s.switches[s.switchTurn%len(s.switches)]
		if !slices.ContainsFunc(s.behind(u), s.busy) {
			return u
		}
	}
	s.switchTurn++
	return s.switches[s.switchTurn%len(s.switches)]
}

// behind names the boards of a switch.
func (s *scenario) behind(u *uplink) []string {
	var names []string
	for _, b := range s.boards {
		if b.uplink == u {
			names = append(names, b.Board)
		}
	}
	return names
}

// sag weakens the next board's supply.
func (s *scenario) sag(at time.Time) {
	b := s.next(func(*board) bool { return true })
	if b == nil {
		return
	}
	b.sim.Undervoltage(at, at.Add(sagTime))
	// The model has taken in the new second one second later.
	s.do(at.Add(time.Second), "supply sags", b.Board, b.call)
	s.do(at.Add(sagTime+time.Second), "supply recovers", b.Board, b.call)
	s.announce(Fault{
		At: at, Until: at.Add(sagTime), Boards: []string{b.Board},
		What: fmt.Sprintf("The supply of %s (%s) sags below 4.63 V: under-voltage, and its clock falls.", b.Board, b.Model),
	})
}

// overheat lets the next board that can throttle do so.
func (s *scenario) overheat(at time.Time) {
	var hot time.Time
	b := s.next(func(b *board) (ok bool) {
		hot, ok = b.overheat(at)
		return ok
	})
	if b == nil {
		return
	}
	s.do(hot, "board throttles", b.Board, func() {})
	s.announce(Fault{
		At: hot, Until: at.Add(heatTime), Boards: []string{b.Board},
		What: fmt.Sprintf("%s (%s) works hard behind a blocked fan: it passes 80 °C and is throttled.", b.Board, b.Model),
	})
}

// next returns the next suitable board that has no fault announced, alone or
// with its switch, or nil.
func (s *scenario) next(suitable func(*board) bool) *board {
	for range s.boards {
		s.turn += stride(len(s.boards))
		b := s.boards[s.turn%len(s.boards)]
		if !s.busy(b.Board) && suitable(b) {
			return b
		}
	}
	return nil
}

// stride walks through the racks instead of along a switch, and meets every
// board of so many.
func stride(boards int) int {
	for _, prime := range []int{7, 11, 13} {
		if boards%prime != 0 {
			return prime
		}
	}
	return 1
}

func (s *scenario) busy(board string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.faults, func(f Fault) bool {
		return !f.Done && slices.Contains(f.Boards, board)
	})
}

func (s *scenario) do(at time.Time, what, whom string, act func()) {
	s.steps = append(s.steps, step{at, func() {
		s.log.Info("simulated fault: "+what, "at", whom)
		act()
	}})
	slices.SortStableFunc(s.steps, func(a, b step) int { return a.at.Compare(b.at) })
}

func (s *scenario) announce(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, f)
	slices.SortStableFunc(s.faults, func(a, b Fault) int { return a.At.Compare(b.At) })
	s.faults = s.faults[max(0, len(s.faults)-remembered):]
}

// list marks the faults that are over and returns all.
func (s *scenario) list(now time.Time) []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.faults {
		s.faults[i].Done = !now.Before(s.faults[i].Until)
	}
	return slices.Clone(s.faults)
}

// run performs the steps until ctx ends. It leaves all switches plugged in, so
// that the boards can say goodbye.
func (s *scenario) run(ctx context.Context) {
	defer func() {
		for _, u := range s.switches {
			u.plug()
		}
	}()
	for len(s.steps) > 0 {
		next := s.steps[0]
		if !sleep(ctx, time.Until(next.at)) {
			return
		}
		s.steps = s.steps[1:]
		next.do()
		s.list(time.Now())
		s.extend(time.Now())
	}
}
