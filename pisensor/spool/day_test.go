package spool

import (
	"math/rand/v2"
	"testing"

	"bramble/pisensor/report"
)

// day makes the readings of a busy board with all sources, every 10 s: 29 readings, counters that
// grow by amounts that differ, gauges with the sensors' noise.
type day struct {
	r        *rand.Rand
	counters [40]int64
	clock    int64
	memory   int64
}

func (d *day) count(n int, mean float64) int64 {
	d.counters[n] += int64(d.r.ExpFloat64() * mean)
	return d.counters[n]
}

func (d *day) read(i int64, t *report.Tick) {
	if d.r == nil {
		*d = day{r: rand.New(rand.NewPCG(3, 4)), clock: 600_000, memory: 700_000}
		for k := range d.counters {
			d.counters[k] = d.r.Int64N(1 << 36)
		}
	}
	if d.r.IntN(4) == 0 {
		d.clock = 600_000 + 100_000*d.r.Int64N(9)
	}
	d.memory += int64(d.r.NormFloat64() * 600)
	t.Add(report.SOCTemperature, 412_000-538*int64(670+d.r.NormFloat64()*2))
	t.Add(report.ClockRequested, d.clock)
	t.Add(report.ClockMeasured, d.clock/1000+d.r.Int64N(2))
	t.Add(report.FanSpeed, 3000+d.r.Int64N(40))
	t.Add(report.Throttled, 0)
	t.Add(report.CoreVolts, 12_000+125*d.r.Int64N(8))
	t.Add(report.CPUBusy, d.count(0, 80))
	t.Add(report.Load1, 30+d.r.Int64N(80))
	t.Add(report.MemoryAvailable, d.memory)
	t.Add(report.BootTime, 1_700_000_000_000)
	for k, device := range [...]string{"eth0", "wlan0"} {
		t.AddInstance(report.NetworkReceive, device, d.count(1+4*k, 40_000))
		t.AddInstance(report.NetworkTransmit, device, d.count(2+4*k, 15_000))
		t.AddInstance(report.NetworkErrors, device, 3)
		t.AddInstance(report.NetworkCarrier, device, 1)
	}
	for k, op := range [...]string{"READ", "WRITE", "GETATTR", "LOOKUP"} {
		t.AddInstance(report.NFSRTT, op, int64(500*(k+1))+int64(d.r.ExpFloat64()*400))
	}
	t.Add(report.NFSRetransmissions, d.count(20, 0.02))
	t.Add(report.SensorSpool, i*29)
	t.Add(report.SensorDropped, 0)
	t.Add(report.ClockOffset, d.r.Int64N(5)-2)
	t.Add(report.SensorCPU, i)
	t.Add(report.SensorMemory, 7900+d.r.Int64N(60))
	t.Add(report.SensorWakeups, i*9+d.r.Int64N(9))
}

// fill adds so many hours of ticks.
func fill(s *Spool, hours int64) (readings int) {
	var d day
	var tick report.Tick
	s.SetAnchor(1_700_000_000_000)
	for i := range hours * 360 {
		tick.Reset()
		d.read(i, &tick)
		readings += len(tick.Readings)
		s.Add(i*10_000, tick.Readings)
	}
	return readings
}

func TestADayFitsAMegabyte(t *testing.T) {
	s := New(megabyte)
	readings := fill(s, 24)
	if s.Dropped() != 0 {
		t.Fatalf("%d of %d readings of a day dropped", s.Dropped(), readings)
	}
	t.Logf("24 h: %d readings, %.1f a tick, in %d of %d blocks, %.2f bytes a reading",
		readings, float64(readings)/8640, len(s.live), s.limit, float64(len(s.live)*blockSize)/float64(readings))
}

func TestAFullSpoolDropsTheOldestAndCounts(t *testing.T) {
	s := New(megabyte)
	readings := fill(s, 72)
	if s.Dropped() == 0 || int(s.Dropped())+s.Readings() != readings {
		t.Errorf("%d dropped and %d wait of %d readings", s.Dropped(), s.Readings(), readings)
	}
	first, _ := s.Run(0, s.Next(), 1)
	if n := s.Next() - first; n < 8640 {
		t.Errorf("the newest %d ticks are left, want a day of them", n)
	}
}

func BenchmarkADayInTheSpool(b *testing.B) {
	for b.Loop() {
		s := New(megabyte)
		readings := fill(s, 24)
		b.ReportMetric(float64(len(s.live)*blockSize), "bytes/day")
		b.ReportMetric(float64(len(s.live)*blockSize)/float64(readings), "bytes/reading")
	}
}
