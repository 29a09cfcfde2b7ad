// Package sim is a simulated Raspberry Pi: load makes heat, heat fills thermal masses, the kernel's
// governor asks for a clock and the firmware grants one that the temperature allows; the sensors'
// values have the steps of the real ones.
//
// It owns no clock, goroutine or connection: a Board is a sensor.Source that each read advances. It
// measures nothing of its host.
package sim

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"bramble/pisensor/report"
)

// Options describe one board. Model is required.
type Options struct {
	Model *Model
	// Seed makes boards of one model differ; the same seed and load make the same board.
	Seed uint64
	// Start is when the simulation begins, in whole seconds; the board has run
	// for days by then and is as warm as an idle one gets.
	Start time.Time
	Load  Load // nil = idle
	// Ambient is the mean temperature of the air around the board in °C, which
	// swings by 1.5 °C over the day. 0 = 24.
	Ambient float64
	// Cooling is a factor on the resistance between board and air: below 1 with
	// a heat sink or a fan, above 1 in a tight case. 0 = 1, a bare board on a desk.
	Cooling float64
	// SoftLimit overrides the model's soft temperature limit, in °C
	// (temp_soft_limit in config.txt). 0 = the model's own.
	SoftLimit float64
	// Now is the time to which Read advances. nil = time.Now.
	Now func() time.Time
}

// Board is one simulated board. It is safe for concurrent use.
type Board struct {
	options Options
	boot    time.Time

	mu     sync.Mutex
	unix   int64 // the second up to which the board is simulated
	faults []fault
	machine
}

// State is a board's state at one time, in units that people use.
type State struct {
	SoC, Plate, Ambient float64 // °C
	Requested, Measured float64 // MHz
	Volts, Watts        float64 // core voltage; power of SoC and board
	Busy                float64 // cores
	Throttled           int64   // bits 0–3 as the firmware reports them
}

// New returns a board that stands at its start.
func New(o Options) *Board {
	if o.Load == nil {
		o.Load = Idle(o.Seed)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Ambient == 0 {
		o.Ambient = 24
	}
	if o.Cooling == 0 {
		o.Cooling = 1
	}
	if o.SoftLimit == 0 {
		o.SoftLimit = o.Model.SoftLimit
	}
	up := 2*day + int64(60*day*dice(o.Seed^8, 0))
	b := &Board{options: o, unix: o.Start.Unix(), boot: time.Unix(o.Start.Unix()-up, 0)}
	b.machine = newMachine(o.Model, o.SoftLimit)
	b.settle(o.Model.MinMHz, b.air(b.unix), o.Cooling)
	b.busyTicks = float64(up) * 2
	return b
}

// Advance simulates up to the last whole second before to. It does nothing
// when the board is there already; a board never goes back.
func (b *Board) Advance(to time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(to.Unix())
}

func (b *Board) advance(to int64) {
	for ; b.unix < to; b.unix++ {
		c := conditions{airflow: 1}
		if len(b.faults) > 0 {
			c = b.conditions(b.unix)
		}
		w := b.options.Load(b.unix)
		if c.overload {
			w = Work{Busy: float64(b.model.Cores), Peak: 1, Vector: true}
		}
		b.machine.step(w, b.air(b.unix)+c.ambient, b.options.Cooling*c.airflow, c.weak)
	}
}

// air is the ambient temperature: warmest at 16:00 UTC. It is computed anew
// each minute only.
func (b *Board) air(unix int64) float64 {
	if m := unix / minute; m != b.airMinute {
		const warmest, swing = 16 * hour, 1.5
		b.airMinute = m
		b.airNow = b.options.Ambient + swing*math.Cos(2*math.Pi*float64(unix%day-warmest)/day)
	}
	return b.airNow
}

// Clone returns a board that goes the same way from here on: a look ahead.
func (b *Board) Clone() *Board {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &Board{options: b.options, boot: b.boot, unix: b.unix, faults: slices.Clone(b.faults), machine: b.machine}
}

// State returns the board's state at the second up to which it was advanced.
func (b *Board) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return State{
		SoC: b.heat.soc, Plate: b.heat.plate, Ambient: b.airNow,
		Requested: b.governor.requested, Measured: b.firmware.measured,
		Volts: b.volts, Watts: b.watts + b.model.OtherWatts,
		Busy: b.busy, Throttled: b.firmware.bits,
	}
}

// Booted returns when the board booted.
func (b *Board) Booted() time.Time { return b.boot }

// Uptime returns how long the board has been up.
func (b *Board) Uptime() time.Duration { return b.options.Now().Sub(b.boot) }

// Attributes describe the board as pi_info does.
func (b *Board) Attributes() []report.Attribute {
	m := b.options.Model
	kernel := "6.12.47+rpt-rpi-v8"
	switch {
	case m.Cores == 1:
		kernel = "6.12.47+rpt-rpi-v6"
	case m.Register == bcm2835:
		kernel = "6.12.47+rpt-rpi-v7"
	case m.Register == bcm2712:
		kernel = "6.12.47+rpt-rpi-2712"
	}
	return []report.Attribute{
		{Key: report.AttributeModel, Value: m.Board},
		{Key: report.AttributeRevision, Value: m.Revision},
		{Key: report.AttributeKernel, Value: kernel},
		{Key: report.AttributeFirmware, Value: "2025-08-20T17:02:31"},
		{Key: report.AttributeOS, Value: "Debian GNU/Linux 13 (trixie)"},
		{Key: report.AttributeSensor, Value: "simulated"},
		{Key: report.AttributeBootID, Value: fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(b.boot.Unix()), b.options.Seed>>16)},
		{Key: report.AttributeSerial, Value: fmt.Sprintf("5117%012x", b.options.Seed&0xffffffffffff)},
	}
}
