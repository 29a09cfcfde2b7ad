package sim

import (
	"math"
	"time"

	"bramble/pisensor/report"
)

// sensorNoise is the spread of one temperature reading, in °C, without the rounding: the spread of
// a real 3B from one second to the next.
const sensorNoise = 0.28

// startUp is how long after its boot a sensor does not judge the supply, in
// seconds.
const startUp = 60

// Read advances the board to the present and adds its sensors' readings.
func (b *Board) Read(t *report.Tick) {
	b.ReadAt(b.options.Now(), t)
}

// ReadAt advances the board to a time and adds its sensors' readings of then. The past cannot be
// read: an earlier time yields the board as it is.
func (b *Board) ReadAt(at time.Time, t *report.Tick) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(at.Unix())
	b.append(t)
}

func (b *Board) append(t *report.Tick) {
	m := b.model
	t.Add(report.SOCTemperature, m.Register.quantise(b.heat.soc+b.noise()))
	t.Add(report.ClockRequested, int64(math.Round(b.governor.requested*1000)))
	t.Add(report.ClockMeasured, int64(math.Round(b.firmware.measured)))
	t.Add(report.Throttled, b.firmware.bits)
	if b.unix-b.boot.Unix() >= startUp {
		t.Add(report.SupplyFault, b.firmware.bits&underVoltage*report.SupplyLow)
	}
	t.Add(report.CPUBusy, int64(b.busyTicks))
	t.Add(report.CoreVolts, int64(math.Round(b.volts*1e4)))
	t.Add(report.Load1, int64(math.Round(b.load1*100)))
	t.Add(report.MemoryAvailable, m.MemoryKB-int64(b.memory))
	if m.Fan {
		t.Add(report.FanSpeed, fanSpeeds[b.fan])
	}
}

// noise is bell-shaped enough: the sum of three dice.
func (b *Board) noise() float64 {
	s := b.options.Seed
	sum := dice(s^11, b.unix) + dice(s^12, b.unix) + dice(s^13, b.unix)
	return (sum - 1.5) * 2 * sensorNoise
}
