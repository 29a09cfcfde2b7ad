package sensor

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"bramble/pisensor/report"
)

// oven is a board whose load comes and goes: its temperature moves by up to
// 1.1 °C a second between a cool and a hot end, and the firmware sets its bits
// at its limits.
type oven struct {
	r           *rand.Rand
	at          time.Time
	temperature float64 // °C
	towards     float64
	slope       float64
	crossed     map[float64]time.Time // lines that were crossed upwards and not yet seen
	delays      []time.Duration
}

var ovenLines = []float64{70, 80, 85} // a rule's, and the firmware's

// advance simulates in steps of 20 ms up to now.
func (o *oven) advance(now time.Time) {
	for ; o.at.Before(now); o.at = o.at.Add(20 * time.Millisecond) {
		before := o.temperature
		if d := o.towards - before; d > 0 {
			o.temperature += min(d, o.slope*0.02)
		} else {
			o.temperature += max(d, -o.slope*0.02)
		}
		if o.temperature == o.towards && o.r.IntN(3000) == 0 {
			o.towards, o.slope = 40+50*o.r.Float64(), 0.05+1.05*o.r.Float64()
		}
		for _, line := range ovenLines {
			switch {
			case before < line && o.temperature >= line:
				o.crossed[line] = o.at
			case before >= line && o.temperature < line:
				delete(o.crossed, line) // too short to be seen: not counted
			}
		}
	}
}

func (o *oven) Read(t *report.Tick) {
	now := time.Now()
	o.advance(now)
	t.Add(report.SOCTemperature, int64(o.temperature*1000))
	bits := int64(0)
	if o.temperature >= 80 {
		bits = 4
	}
	t.Add(report.Throttled, bits)
	for line, at := range o.crossed {
		o.delays = append(o.delays, now.Sub(at))
		delete(o.crossed, line)
	}
}

// TestACrossingIsReadWithinASecond is the sensor's share of the promise that a
// page leaves within 2 s of a crossing: over two days of simulated time.
func TestACrossingIsReadWithinASecond(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		o := &oven{r: rand.New(rand.NewPCG(7, 8)), at: time.Now(), temperature: 50, towards: 60, slope: 1, crossed: map[float64]time.Time{}}
		b.connect(true)
		_, stop := b.start(b.options(o))
		b.send(report.ControlSubject("b1"), (&report.Control{
			SetLines: true, Lines: []report.Line{{Metric: report.SOCTemperature, Level: 70_000}},
		}).Append(nil))
		pass(48 * time.Hour)
		stop()
		slices.Sort(o.delays)
		n := len(o.delays)
		if n < 300 {
			t.Fatalf("%d crossings: too few to tell", n)
		}
		if p99 := o.delays[n*99/100]; p99 > fast+20*time.Millisecond {
			t.Errorf("p99 of %d crossings: %v", n, p99)
		}
		t.Logf("%d crossings: median %v, p99 %v, longest %v; %d ticks, %d at the default rate",
			n, o.delays[n/2], o.delays[n*99/100], o.delays[n-1], len(b.ticks), 48*360)
	})
}
