package sensor

import (
	"testing"
	"time"

	"bramble/pisensor/report"
)

// spender is a board's rhythm in simulated time, with a process that costs so
// much a tick and so much a second.
type spender struct {
	rhythm
	now          time.Duration
	perTick      time.Duration
	perSecond    time.Duration
	wakeupsATick int64
	temperature  int64
	leased       bool

	cpu      time.Duration
	wakeups  int64
	reported time.Duration
	longest  time.Duration // interval of the last pass
	ticks    int           // of the last pass
}

func newSpender() *spender {
	return &spender{rhythm: newRhythm("b1", DefaultInterval, 0), temperature: 45_000, wakeupsATick: 4}
}

// pass lets time pass.
func (s *spender) pass(d time.Duration) {
	s.longest, s.ticks = 0, 0
	for end := s.now + d; s.now < end; {
		if s.leased {
			s.control(s.now, request{lease: maxLease})
		}
		at := max(s.due(s.now), s.now)
		s.cpu += time.Duration(float64(s.perSecond) * (at - s.now).Seconds())
		s.longest = max(s.longest, at-s.now)
		s.now = at
		s.take(at)
		s.ticks++
		s.cpu += s.perTick
		s.wakeups += s.wakeupsATick
		readings := []report.Reading{{Series: report.Series{Metric: report.SOCTemperature}, Value: s.temperature}}
		if s.now-s.reported >= time.Minute {
			s.reported = s.now
			readings = append(readings,
				report.Reading{Series: report.Series{Metric: report.SensorCPU}, Value: s.cpu.Milliseconds()},
				report.Reading{Series: report.Series{Metric: report.SensorWakeups}, Value: s.wakeups})
		}
		s.observe(s.now, readings)
	}
}

func TestBudgetLeavesACheapSensorAlone(t *testing.T) {
	s := newSpender()
	s.perTick = 4 * time.Millisecond
	s.cpu = 3 * time.Second // a slow board's start and handshake
	s.pass(12 * time.Hour)
	if s.longest > DefaultInterval || s.budget.over() {
		t.Errorf("interval %v at %.3f %% of a core", s.longest, 100*s.budget.share)
	}
}

func TestBudgetLengthensTheIntervalAndReturns(t *testing.T) {
	s := newSpender()
	s.perTick = 15 * time.Millisecond // 0.15 % of a core every 10 s
	s.pass(30 * time.Minute)
	s.pass(20 * time.Minute)
	if s.longest != 2*DefaultInterval {
		t.Errorf("over budget: interval %v, want twice the default", s.longest)
	}
	s.perTick = 500 * time.Millisecond
	s.pass(12 * time.Hour)
	s.pass(time.Hour)
	if s.longest != MaxInterval {
		t.Errorf("far over budget: interval %v, want the longest", s.longest)
	}
	s.perTick = time.Millisecond
	s.pass(40 * time.Minute)
	if s.longest < MaxInterval {
		t.Errorf("interval %v came back at once", s.longest)
	}
	s.pass(24 * time.Hour)
	s.pass(time.Hour)
	if s.longest != DefaultInterval || s.budget.over() {
		t.Errorf("within budget for a day: interval %v", s.longest)
	}
}

func TestBudgetDoesNotFlap(t *testing.T) {
	s := newSpender()
	s.perTick = 11 * time.Millisecond // too much every 10 s, little every 20 s
	changes, was := 0, s.budget.calm
	for range 24 * 60 {
		s.pass(time.Minute)
		if s.budget.calm != was {
			changes, was = changes+1, s.budget.calm
		}
	}
	if changes < 2 || changes > 14 {
		t.Errorf("interval changed %d times in a day", changes)
	}
}

func TestABoardAtALineIsNeverSlowed(t *testing.T) {
	s := newSpender()
	s.perTick = 50 * time.Millisecond // 5 % of a core at 1 Hz
	s.pass(6 * time.Hour)
	if s.longest < MaxInterval {
		t.Errorf("calm and far over budget: interval %v", s.longest)
	}
	s.temperature = 79_800
	s.pass(10 * time.Second)
	s.pass(6 * time.Hour)
	if s.longest > fast {
		t.Errorf("at a line: interval %v, want %v", s.longest, fast)
	}
}

func TestALeaseYieldsBeforeTheCalmInterval(t *testing.T) {
	s := newSpender()
	s.perTick = 8 * time.Millisecond // 0.08 % every 10 s, 0.8 % at 1 Hz
	s.leased = true                  // a collector that renews for ever
	s.pass(24 * time.Hour)
	if s.budget.live == 0 || s.budget.calm != 0 {
		t.Errorf("live mode is stretched %d times, the calm interval %d times", s.budget.live, s.budget.calm)
	}
	s.pass(time.Hour)
	if share := s.budget.share; share > fastShare {
		t.Errorf("a lease for ever costs %.2f %% of a core", 100*share)
	}
	s.temperature = 80_000
	s.pass(10 * time.Second)
	s.pass(time.Hour)
	if s.longest > fast {
		t.Errorf("at a line and leased: interval %v", s.longest)
	}
	s.temperature, s.leased = 45_000, false
	s.pass(48 * time.Hour)
	if s.longest > DefaultInterval || s.budget.over() {
		t.Errorf("nobody looks: interval %v, live mode still stretched: %v", s.longest, s.budget.over())
	}
}

func TestWakeupsCountToo(t *testing.T) {
	s := newSpender()
	s.wakeupsATick = 20
	s.pass(time.Hour)
	if s.budget.calm == 0 {
		t.Errorf("%.1f wake-ups a second do not lengthen the interval", s.budget.wakeups)
	}
}
