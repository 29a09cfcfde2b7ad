package sim

import "math"

// machine is the board's state at one second, without its surroundings. It is
// a value: a copy goes its own way.
type machine struct {
	model    *Model
	heat     heat
	governor governor
	firmware firmware

	coreVolts float64 // a fixed core voltage (over_voltage in config.txt); 0 = by the clock
	volts     float64
	watts     float64 // of the SoC
	busy      float64 // cores
	busyTicks float64 // since boot, in 10 ms
	load1     float64
	memory    float64 // KiB in use by programs
	fan       int     // step of the fan, 0 = off

	airMinute int64
	airNow    float64
}

func newMachine(m *Model, softLimit float64) machine {
	return machine{model: m, firmware: firmware{soft: softLimit, measured: m.MinMHz}, memory: memoryFloor * float64(m.MemoryKB)}
}

// settle brings the machine to rest at a clock, idle.
func (s *machine) settle(mhz, air, cooling float64) {
	s.governor.requested, s.firmware.measured = mhz, mhz
	s.volts = s.model.volts(mhz)
	s.watts = s.model.IdleWatts
	s.heat.settle(s.model, s.watts, air, cooling)
}

// Time constants per second: the kernel's load average decays over a minute,
// programs take and give back memory over some minutes.
var (
	loadDecay   = 1 - math.Exp(-second/minute)
	memoryDecay = 1 - math.Exp(-second/(3*minute))
)

// Shares of the memory that programs use on an idle board and per busy core.
const memoryFloor, memoryPerCore = 0.12, 0.13

// step lets one second pass.
func (s *machine) step(w Work, air, cooling float64, weak bool) {
	m := s.model
	s.governor.step(m, w.Peak)
	s.firmware.step(m, s.heat.soc, s.governor.requested, weak)
	s.volts = s.voltage()
	s.watts = s.power(w)
	s.heat.step(m, s.watts, air, cooling*s.fanFactor())
	s.account(w)
}

// voltage follows the clock that the kernel asks for: under heat the firmware
// lowers the clock alone, as the recordings show, at the soft limit both.
func (s *machine) voltage() float64 {
	switch {
	case s.coreVolts > 0:
		return s.coreVolts
	case s.firmware.bits&softTemperature != 0:
		return s.model.volts(min(s.governor.requested, s.model.SoftMHz))
	}
	return s.model.volts(s.governor.requested)
}

// power is the SoC's power in watts, all of which becomes heat: idle + busy cores × V² × f.
func (s *machine) power(w Work) float64 {
	m := s.model
	active := w.Busy * m.WattsPerGHz * s.volts * s.volts * s.firmware.measured / 1000
	if w.Vector {
		active *= m.Vector
	}
	return m.IdleWatts + active
}

func (s *machine) account(w Work) {
	s.busy = w.Busy
	s.busyTicks += w.Busy * 100
	s.load1 += (w.Busy - s.load1) * loadDecay
	want := (memoryFloor + memoryPerCore*w.Busy) * float64(s.model.MemoryKB)
	s.memory += (want - s.memory) * memoryDecay
}

// The Pi 5's active cooler: temperatures at which the steps begin, in °C
// (bcm2712-rpi-5-b.dts), 5 °C of hysteresis, the speed of each step, and how
// much of the passive resistance is left at it.
var (
	fanFrom   = [...]float64{0, 50, 60, 67.5, 75}
	fanSpeeds = [...]int64{0, 2600, 4400, 6200, 8200}
	fanLeft   = [...]float64{1, 0.72, 0.6, 0.52, 0.46}
)

const fanHysteresis = 5

func (s *machine) fanFactor() float64 {
	if !s.model.Fan {
		return 1
	}
	for s.fan+1 < len(fanFrom) && s.heat.soc >= fanFrom[s.fan+1] {
		s.fan++
	}
	for s.fan > 0 && s.heat.soc < fanFrom[s.fan]-fanHysteresis {
		s.fan--
	}
	return fanLeft[s.fan]
}
