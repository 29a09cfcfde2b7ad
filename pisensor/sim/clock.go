package sim

import "math"

// The governor of Raspberry Pi OS: ondemand with a threshold of 50 %, sampled
// every 100 ms, which keeps the top clock for 50 samples after the last that
// was above it.
const (
	governorThreshold = 0.5
	governorHold      = 5 // seconds
	governorStep      = 100
)

// governor decides the clock that the kernel asks for.
type governor struct {
	fixed     float64 // MHz: another governor holds this clock; 0 = ondemand
	hold      int     // seconds for which the top clock stays
	requested float64 // MHz
}

func (g *governor) step(m *Model, peak float64) {
	switch {
	case g.fixed > 0:
		g.requested = g.fixed
		return
	case peak > governorThreshold:
		g.hold = governorHold
	case g.hold > 0:
		g.hold--
	}
	if g.hold > 0 {
		g.requested = m.MaxMHz
		return
	}
	mhz := m.MinMHz + peak*(m.MaxMHz-m.MinMHz)
	g.requested = math.Round(mhz/governorStep) * governorStep
}

// Throttle bits 0–3 as the firmware reports them (tag 0x00030046).
const (
	underVoltage    = 1 << 0
	capped          = 1 << 1
	throttled       = 1 << 2
	softTemperature = 1 << 3
)

// Fitted to the recordings of throttling boards: under heat the clock takes values 53.76 MHz apart
// (2.8 × 19.2 MHz, the crystal), starting 5.4 MHz below the top, and follows the temperature from
// 80 °C down to its minimum at 85 °C. It falls faster than it comes back.
const (
	throttleFrom, throttleFull = 80.0, 85.0
	throttleStep, throttleTop  = 53.76, 5.4
	throttleDown, throttleUp   = 3, 1 // steps a second
	softHysteresis             = 0.5  // °C
)

// firmware decides the clock that the SoC really runs at.
type firmware struct {
	soft     float64 // °C, the soft limit; 0 = none
	steps    int     // how far the heat has pushed the clock down
	measured float64 // MHz
	bits     int64
}

func (f *firmware) step(m *Model, celsius, requested float64, weak bool) {
	f.follow(m, celsius, requested)
	wasSoft := f.bits&softTemperature != 0
	f.measured, f.bits = requested, 0
	if f.steps > 0 {
		f.limit(m.top(requested)-throttleTop-throttleStep*float64(f.steps), m.MinMHz, capped|throttled)
	}
	if f.overSoftLimit(celsius, wasSoft) {
		f.limit(m.SoftMHz, m.MinMHz, softTemperature)
	}
	if weak {
		f.limit(m.MinMHz, m.MinMHz, underVoltage|throttled)
	}
}

// follow moves the clock's steps towards those that the temperature demands.
func (f *firmware) follow(m *Model, celsius, requested float64) {
	limit := (m.top(requested) - throttleTop - m.MinMHz) / throttleStep
	want := int(limit * min(1, max(0, (celsius-throttleFrom)/(throttleFull-throttleFrom))))
	switch {
	case want > f.steps:
		f.steps = min(want, f.steps+throttleDown)
	case want < f.steps:
		f.steps = max(want, f.steps-throttleUp)
	}
}

func (f *firmware) overSoftLimit(celsius float64, was bool) bool {
	limit := f.soft
	if was {
		limit -= softHysteresis
	}
	return f.soft > 0 && celsius >= limit
}

func (f *firmware) limit(mhz, floor float64, bits int64) {
	f.measured = min(f.measured, max(mhz, floor))
	f.bits |= bits
}

// top is the highest clock: an overclocked board is asked for more than its model's.
func (m *Model) top(requested float64) float64 { return max(m.MaxMHz, requested) }
