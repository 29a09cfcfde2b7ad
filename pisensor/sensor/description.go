package sensor

import (
	"slices"
	"time"

	"bramble/pisensor/report"
	"bramble/pisensor/spool"
)

const (
	// lookGap is the time between two looks at the board's description.
	lookGap = 10 * time.Minute
	// repeatGap is how often an unchanged description is sent again.
	repeatGap = time.Hour
)

// description sends the board's attributes: at the start, on every new connection, on change, and
// hourly. It rides on a report and is sent again until a report that carries it is acknowledged.
type description struct {
	read    func() []report.Attribute
	current []report.Attribute
	looked  time.Duration
	arrived time.Duration
	pending bool
	carrier uint64 // first tick of the report that carries it, 0 = none
}

// look reads the description when it is time, and reports whether it has changed.
func (d *description) look(now time.Duration) (changed bool) {
	if d.read == nil || d.current != nil && now-d.looked < lookGap {
		return false
	}
	d.looked = now
	if found := d.read(); !slices.Equal(found, d.current) {
		d.current, d.pending, changed = found, true, true
	}
	d.pending = d.pending || now-d.arrived >= repeatGap
	return changed
}

// model returns the board's model, or an empty string.
func (d *description) model() string {
	for _, a := range d.current {
		if a.Key == report.AttributeModel {
			return a.Value
		}
	}
	return ""
}

func (d *description) attach(r *report.Report, first uint64) {
	if !d.pending || d.carrier != 0 {
		return
	}
	r.Info = append(r.Info[:0], d.current...)
	d.carrier = first
}

// lost takes note that a report was not acknowledged in time.
func (d *description) lost(first uint64) {
	if d.carrier == first {
		d.carrier = 0
	}
}

func (d *description) acknowledged(now time.Duration, s *spool.Spool) {
	if d.carrier == 0 || s.Waits(d.carrier, 1) {
		return
	}
	d.pending, d.carrier, d.arrived = false, 0, now
}
