package sim

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bramble/pisensor/report"
	"bramble/pisensor/sensor"
)

var start = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

var _ sensor.Source = (*Board)(nil)

func full(m *Model) Load {
	return func(int64) Work { return Work{Busy: float64(m.Cores), Peak: 1} }
}

// In balance, the heat that flows into the air equals the power that the board takes in, and each
// temperature lies above the next by power × resistance.
func TestBalance(t *testing.T) {
	for _, m := range Models {
		b := New(Options{Model: m, Start: start, Load: Steady(0, 0.3), Cooling: 0.5})
		b.Advance(start.Add(10 * time.Hour))
		s := b.State()
		resistance := m.Plate.Kelvins * 0.5
		if m.Fan {
			resistance *= fanLeft[b.fan]
		}
		near(t, m.Name+": watts into the air", (s.Plate-s.Ambient)/resistance, s.Watts, 0.1)
		near(t, m.Name+": watts into the plate", (s.SoC-s.Plate)/m.SoC.Kelvins, s.Watts-m.OtherWatts, 0.1)
	}
}

// The two masses take up exactly the energy that does not reach the air.
func TestEnergyIsConserved(t *testing.T) {
	m := ModelNamed("3B")
	h := heat{soc: 24, plate: 24}
	const air, watts = 24, 3.0
	var in, out float64
	for range 300 {
		h.step(m, watts, air, 1)
		in += watts + m.OtherWatts
		out += (h.plate - air) / m.Plate.Kelvins
	}
	stored := (h.soc-24)*m.SoC.Joules + (h.plate-24)*m.Plate.Joules
	near(t, "joules", stored+out, in, 1e-6)
}

func TestQuantise(t *testing.T) {
	f := func(r Register, celsius float64, want int64) {
		t.Helper()
		if got := r.quantise(celsius); got != want {
			t.Errorf("%.3f °C reads %d, want %d", celsius, got, want)
		}
	}
	f(bcm2837, 46.698, 46698)
	f(bcm2837, 46.8, 46698)
	f(bcm2837, 47.0, 47236)
	f(bcm2711, 41.868, 41868)
	f(bcm2712, 49.6, 49600)
	f(bcm2835, -12, -12102)
}

func TestThrottlingEngagesAndReleases(t *testing.T) {
	b := New(Options{Model: ModelNamed("3B"), Start: start})
	b.BlockAirflow(start, start.Add(20*time.Minute), 1.5)
	b.Overload(start, start.Add(20*time.Minute))
	hottest, slowest := 0.0, 1200.0
	for s := range 20 * 60 {
		b.Advance(start.Add(time.Duration(s) * time.Second))
		st := b.State()
		hottest, slowest = max(hottest, st.SoC), min(slowest, st.Measured)
		if hot := st.Measured < st.Requested; hot != (st.Throttled == capped|throttled) && s > 0 {
			t.Fatalf("after %d s: clock %v of %v MHz with throttle bits %04b", s, st.Measured, st.Requested, st.Throttled)
		}
	}
	if hottest < 82 || hottest > 90 || slowest > 800 {
		t.Errorf("hottest %.1f °C, slowest %.0f MHz: want heat held between 82 and 90 °C by a clock below 800", hottest, slowest)
	}
	b.Advance(start.Add(30 * time.Minute))
	if s := b.State(); s.Throttled != 0 || s.SoC > 60 {
		t.Errorf("ten minutes after: %+v", s)
	}
}

func TestSoftLimit(t *testing.T) {
	m := ModelNamed("3B+")
	b := New(Options{Model: m, Start: start, Load: full(m)})
	b.Advance(start.Add(5 * time.Second))
	if s := b.State(); s.SoC >= 60 || s.Measured != 1400 || s.Throttled != 0 {
		t.Errorf("still cold: %+v", s)
	}
	b.Advance(start.Add(10 * time.Minute))
	if s := b.State(); s.SoC < 60 || s.Measured != 1200 || s.Throttled&softTemperature == 0 || s.Volts != 1.2313 {
		t.Errorf("above the soft limit: %+v", s)
	}
}

func TestUndervoltage(t *testing.T) {
	m := ModelNamed("4B")
	b := New(Options{Model: m, Start: start, Load: full(m)})
	b.Undervoltage(start.Add(time.Minute), start.Add(2*time.Minute))
	f := func(after time.Duration, mhz float64, bits int64) {
		t.Helper()
		b.Advance(start.Add(after))
		if s := b.State(); s.Measured != mhz || s.Throttled != bits {
			t.Errorf("after %v: %v MHz, bits %04b; want %v, %04b", after, s.Measured, s.Throttled, mhz, bits)
		}
	}
	f(time.Minute, 1800, 0)
	f(time.Minute+time.Second, 600, underVoltage|throttled)
	f(2*time.Minute, 600, underVoltage|throttled)
	f(2*time.Minute+time.Second, 1800, 0)
}

func TestGovernorIsFastUpAndSlowDown(t *testing.T) {
	m := ModelNamed("3B")
	var g governor
	g.step(m, 0.05)
	near(t, "idle clock", g.requested, 600, 0)
	g.step(m, 0.6)
	near(t, "clock under load", g.requested, 1200, 0)
	for range governorHold - 1 {
		g.step(m, 0.05)
		near(t, "clock soon after", g.requested, 1200, 0)
	}
	g.step(m, 0.05)
	near(t, "clock at last", g.requested, 600, 0)
}

func TestFanComesAndGoes(t *testing.T) {
	m := ModelNamed("5")
	b := New(Options{Model: m, Start: start, Ambient: 18})
	b.Overload(start, start.Add(10*time.Minute))
	b.Advance(start.Add(9 * time.Minute))
	if got := read(b)[report.FanSpeed]; got == 0 {
		t.Errorf("fan stands still at %.1f °C", b.State().SoC)
	}
	b.Advance(start.Add(2 * time.Hour))
	if got := read(b)[report.FanSpeed]; got != 0 {
		t.Errorf("fan turns at %d rpm at %.1f °C", got, b.State().SoC)
	}
}

// How often somebody looks changes nothing.
func TestSameBoardAtAnyRhythm(t *testing.T) {
	make := func() *Board {
		b := New(Options{Model: ModelNamed("4B"), Seed: 7, Start: start, Load: Builds(7, 4)})
		b.Undervoltage(start.Add(time.Hour), start.Add(2*time.Hour))
		return b
	}
	end := start.Add(6 * time.Hour)
	often, once := make(), make()
	for at := start; at.Before(end); at = at.Add(1700 * time.Millisecond) {
		often.Advance(at)
	}
	often.Advance(end)
	once.Advance(end)
	if d := cmp.Diff(once.State(), often.State()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(read(once), read(often)); d != "" {
		t.Error(d)
	}
}

func TestCloneGoesItsOwnWay(t *testing.T) {
	b := New(Options{Model: ModelNamed("3B"), Start: start})
	c := b.Clone()
	c.Overload(start, start.Add(time.Hour))
	c.Advance(start.Add(time.Hour))
	if at := b.State(); at.Busy != 0 {
		t.Errorf("the original moved: %+v", at)
	}
	b.Advance(start.Add(time.Hour))
	if b.State().SoC+10 > c.State().SoC {
		t.Errorf("original %.1f °C, overloaded clone %.1f °C", b.State().SoC, c.State().SoC)
	}
}

// Every load keeps within the board's cores, and every reading within the
// range that the wire contract calls plausible.
func TestReadingsArePlausible(t *testing.T) {
	for i, m := range Models {
		seed, cores := uint64(i), float64(m.Cores)
		for _, load := range []Load{nil, Steady(seed, cores*0.7), Cron(seed), Bursts(seed, cores), Builds(seed, cores)} {
			b := New(Options{Model: m, Seed: seed, Start: start, Load: load})
			var busy int64
			for s := range 2160 {
				var tick report.Tick
				b.ReadAt(start.Add(time.Duration(s)*10*time.Second), &tick)
				for _, r := range tick.Readings {
					if d := report.Define(r.Series.Metric); r.Value < d.Min || r.Value > d.Max {
						t.Fatalf("%s: %s = %d", m.Name, d.Name, r.Value)
					}
				}
				i := slices.IndexFunc(tick.Readings, func(r report.Reading) bool { return r.Series.Metric == report.CPUBusy })
				if now := tick.Readings[i].Value; now < busy || s > 0 && now > busy+int64(cores*1000*1.06)+1 {
					t.Fatalf("%s: busy counter went from %d to %d in 10 s", m.Name, busy, now)
				} else {
					busy = now
				}
			}
		}
	}
}

func TestAttributesFitTheContract(t *testing.T) {
	for _, m := range Models {
		for _, a := range New(Options{Model: m, Start: start}).Attributes() {
			if a.Key.String() == "" || a.Value == "" || len(a.Value) > report.MaxAttributeSize {
				t.Errorf("%s: %+v", m.Name, a)
			}
		}
	}
}

func read(b *Board) map[report.Metric]int64 {
	var tick report.Tick
	b.ReadAt(start, &tick) // a past time: as it is
	values := make(map[report.Metric]int64)
	for _, r := range tick.Readings {
		values[r.Series.Metric] = r.Value
	}
	return values
}

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if math.Abs(got-want) > within {
		t.Errorf("%s: %v, want %v within %v", what, got, want, within)
	}
}
