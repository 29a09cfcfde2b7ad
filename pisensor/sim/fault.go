package sim

import "time"

// fault is something that happens to a board between two times.
type fault struct {
	from, to int64 // Unix seconds; to is excluded
	kind     faultKind
	amount   float64
}

type faultKind uint8

const (
	faultOverload faultKind = iota
	faultAirflow
	faultAmbient
	faultVoltage
)

// conditions is the sum of the faults of one second.
type conditions struct {
	overload bool
	airflow  float64 // factor on the resistance towards the air
	ambient  float64 // °C on top
	weak     bool    // the supply is too weak
}

// Overload makes all cores work hard, in place of the load. A fault that lies in the board's past
// has no effect.
func (b *Board) Overload(from, to time.Time) { b.add(from, to, faultOverload, 0) }

// BlockAirflow multiplies the resistance between board and air: 2 is a board
// covered by a cable loom, 4 one in a closed box.
func (b *Board) BlockAirflow(from, to time.Time, factor float64) {
	b.add(from, to, faultAirflow, factor)
}

// AmbientOffset warms (or cools) the air around the board by so many °C.
func (b *Board) AmbientOffset(from, to time.Time, celsius float64) {
	b.add(from, to, faultAmbient, celsius)
}

// Undervoltage lets the supply sag below the firmware's limit (4.63 V), which
// caps the clock at its minimum.
func (b *Board) Undervoltage(from, to time.Time) { b.add(from, to, faultVoltage, 0) }

func (b *Board) add(from, to time.Time, kind faultKind, amount float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, fault{from.Unix(), to.Unix(), kind, amount})
}

// conditions sums up the faults of a second and forgets those that are over.
func (b *Board) conditions(unix int64) conditions {
	c := conditions{airflow: 1}
	kept := b.faults[:0]
	for _, f := range b.faults {
		if unix >= f.from && unix < f.to {
			c.apply(f)
		}
		if unix < f.to {
			kept = append(kept, f)
		}
	}
	b.faults = kept
	return c
}

func (c *conditions) apply(f fault) {
	switch f.kind {
	case faultOverload:
		c.overload = true
	case faultAirflow:
		c.airflow *= f.amount
	case faultAmbient:
		c.ambient += f.amount
	case faultVoltage:
		c.weak = true
	}
}
