package ingest

import (
	"bramble/alerting/rules"
	"bramble/dashboards/live"
	"bramble/pisensor/report"
	"bramble/storage"
)

// The series that the collector makes of a board's boots.
const (
	bootTimeSeries = "pi_boot_time_seconds"
	bootsSeries    = "pi_boots_total"
)

// boot is the present boot of a board, and how many it had. The zero value is
// that of a board that has not reported. It is no matter of the board's wall
// clock, which may be set at any time: the kernel draws another boot id each
// time it starts, and an era's anchor is where the collector's clock places the
// start of the board's boot-relative clock.
type boot struct {
	ID     string `json:"id,omitempty"`     // as the board last described itself; empty = it has never said one
	Total  uint64 `json:"total,omitempty"`  // boots that were seen since the first
	Anchor int64  `json:"anchor,omitempty"` // of the newest reading's era, Unix ms; 0 = none yet
}

// learn counts a boot where a description has another boot id than the last
// that had one.
func (x *boot) learn(info []report.Attribute) {
	for _, a := range info {
		if a.Key != report.AttributeBootID || a.Value == "" || a.Value == x.ID {
			continue
		}
		if x.ID != "" {
			x.Total++
		}
		x.ID = a.Value
	}
}

// bootValue is one of the two series at present.
type bootValue struct {
	output *output
	value  float64
}

// bootValues returns those of the two series that a board has: a board without
// a boot id has no count.
func (p *presenceLoop) bootValues(b *board, at int64) []bootValue {
	if v := version(b.registry, at); b.bootOutputs == nil || b.bootFrom != v.From {
		b.bootFrom, b.bootOutputs = v.From, []output{
			newOutput(p.in.Engine, b.name, bootTimeSeries, nil, v, -1), newOutput(p.in.Engine, b.name, bootsSeries, nil, v, -1),
		}
	}
	var values []bootValue
	if b.boot.Anchor > 0 {
		values = append(values, bootValue{&b.bootOutputs[0], float64(b.boot.Anchor) / 1000})
	}
	if b.boot.ID != "" {
		values = append(values, bootValue{&b.bootOutputs[1], float64(b.boot.Total)})
	}
	return values
}

// bootNews reports whether a board that reports has booted, or its boot is
// placed anew, since this was last stored.
func (p *presenceLoop) bootNews(b *board) bool { return b.bootStored != b.boot && p.isUp(b) }

// bootReadings returns the rules' view, empty for a board that does not report.
func (p *presenceLoop) bootReadings(b *board, at int64) []rules.Reading {
	if !p.isUp(b) {
		return nil
	}
	var readings []rules.Reading
	for _, v := range p.bootValues(b, at) {
		readings = append(readings, rules.Reading{Series: v.output.rule, Value: v.value})
	}
	return readings
}

// bootRows returns the rows to be stored, none of a board that does not report.
func (p *presenceLoop) bootRows(b *board, at int64) []storage.Row {
	if !p.isUp(b) {
		return nil
	}
	var rows []storage.Row
	for _, v := range p.bootValues(b, at) {
		rows = append(rows, storage.Row{Series: v.output.row, At: at, Value: v.value})
	}
	return rows
}

// showBoot shows a new boot live. It has the time of the board's newest reading, so that a board
// does not seem to have reported later than it did.
func (p *presenceLoop) showBoot(b *board) {
	if !p.isUp(b) || b.bootShown == b.boot || b.seen <= b.bootShownAt {
		return
	}
	b.bootShown, b.bootShownAt = b.boot, b.seen
	var values []live.Value
	for _, v := range p.bootValues(b, b.seen) {
		values = append(values, live.Value{Series: v.output.live, Value: v.value})
	}
	p.in.Live(b.name, b.seen, values)
}
