// Package report is the contract between a board and the collector: readings
// and their units, the subjects they travel on, the codec, and the validation
// of everything that arrives. It owns no connection, no clock and no state.
//
// Boards in the field speak it for years (netboot images live long), so a
// number, once given, keeps its meaning, and a decoder skips and counts metric
// numbers that it does not know.
package report

import (
	"errors"
	"fmt"
	"math"
)

// Limits of one report. A decoder refuses a report that exceeds one.
const (
	// MaxSize is the largest encoded report, in bytes. It keeps a backlog
	// report below one NATS payload of 256 KiB with room to spare, and bounds
	// the work that one message can cause.
	MaxSize = 64 << 10
	// MaxTicks is the largest number of ticks in a report: nearly 3 h at the
	// default rate of one tick in 10 s.
	MaxTicks = 1024
	// MaxColumns is the largest number of series of one board.
	MaxColumns = 64
	// MaxInstance is the longest instance name (a network device, an NFS
	// operation), in bytes. The kernel's IFNAMSIZ is 16.
	MaxInstance = 32
	// MaxAttributes and MaxAttributeSize bound the board's description.
	MaxAttributes    = 16
	MaxAttributeSize = 128
)

// Missing stands in a column where a tick has no reading of that series.
const Missing = math.MinInt64

// ErrMalformed is wrapped by every error that Decode and its siblings return.
var ErrMalformed = errors.New("malformed message")

// Series names one of a board's own series on the wire. The zero value names none.
type Series struct {
	Metric   Metric
	Instance string // a device or operation where the metric has one, else empty
}

// Valid reports whether a decoder accepts the series: it has an instance name,
// and a well-formed one, exactly where its metric wants one. Of metrics that this
// build does not know only the name is checked.
func (s Series) Valid() bool {
	if s.Metric == 0 || len(s.Instance) > MaxInstance || s.Instance != "" && !validInstance(s.Instance) {
		return false
	}
	d := Define(s.Metric)
	return d == nil || (d.InstanceLabel != "") == (s.Instance != "")
}

// Column holds one series of a report.
type Column struct {
	Series Series
	Values []int64 // one per tick in the metric's wire unit, or Missing
}

// Attribute is one fact of the board's description, such as its kernel.
type Attribute struct {
	Key   AttributeKey
	Value string
}

// Report is a batch of ticks of one session and one era. Ticks are numbered
// First, First+1, … and immutable once taken: the same number always carries
// the same readings and times. The zero value is an empty report that can be
// filled or decoded into.
//
// A Report is not safe for concurrent use. Decode reuses its slices.
type Report struct {
	Session uint32 // drawn at random when the sensor starts
	// Anchor is the era: the Unix time, in milliseconds, at which the board's
	// boot-relative clock stood at zero. A correction opens a new era; no tick
	// is ever placed anew.
	Anchor  int64
	Due     int64 // the next report comes within so many milliseconds; 0 = unknown
	Goodbye bool  // the sensor stops now: the silence that follows is intended
	// AckLater says that no acknowledgement is asked for yet: a later report
	// asks, and its ack covers these ticks too. Each ack wakes the board.
	AckLater bool
	First    uint64   // number of the first tick
	Elapsed  []int64  // boot-relative time of each tick, in ms, strictly increasing
	Columns  []Column // in no particular order, each series at most once
	Info     []Attribute

	// Unknown counts readings of metric numbers that this build does not know,
	// Implausible those outside their metric's range. Decode dropped both.
	Unknown, Implausible int

	spare     [][]int64         // value slices between two decodings
	instances map[string]string // strings once made are used again
}

// Ticks returns how many ticks the report holds.
func (r *Report) Ticks() int { return len(r.Elapsed) }

// At returns the Unix time of tick i, in milliseconds.
func (r *Report) At(i int) int64 { return r.Anchor + r.Elapsed[i] }

// Readings returns how many readings the report holds.
func (r *Report) Readings() int {
	n := 0
	for _, c := range r.Columns {
		for _, v := range c.Values {
			if v != Missing {
				n++
			}
		}
	}
	return n
}

// Reset empties the report and keeps its memory for the next one.
func (r *Report) Reset() {
	for i := range r.Columns {
		r.spare = append(r.spare, r.Columns[i].Values[:0])
		r.Columns[i].Values = nil
	}
	*r = Report{
		Elapsed: r.Elapsed[:0], Columns: r.Columns[:0], Info: r.Info[:0],
		spare: r.spare, instances: r.instances,
	}
}

// Column returns the values of a series, adding a column of Missing values
// where the report has none yet. Elapsed must be filled before.
func (r *Report) Column(s Series) []int64 {
	for i := range r.Columns {
		if r.Columns[i].Series == s {
			return r.Columns[i].Values
		}
	}
	return r.AddColumn(s)
}

// AddColumn adds a column of Missing values for a series that the report has
// none of yet, and returns its values. Elapsed must be filled before.
func (r *Report) AddColumn(s Series) []int64 {
	values := r.values(len(r.Elapsed))
	for i := range values {
		values[i] = Missing
	}
	r.Columns = append(r.Columns, Column{Series: s, Values: values})
	return values
}

// values returns a slice of n values, from the spare ones where there is one.
func (r *Report) values(n int) []int64 {
	if last := len(r.spare) - 1; last >= 0 {
		s := r.spare[last]
		r.spare = r.spare[:last]
		if cap(s) >= n {
			return s[:n]
		}
	}
	return make([]int64, n)
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Reading is one value of one series, in the metric's wire unit.
type Reading struct {
	Series Series
	Value  int64
}

// Tick holds a sensor's readings of one instant. Sources fill it; a source that cannot read adds
// nothing. The zero value is empty and ready for use; a Tick is not safe for concurrent use.
type Tick struct {
	Readings []Reading
}

// Add adds a reading of a metric that has no instances.
func (t *Tick) Add(m Metric, v int64) { t.AddInstance(m, "", v) }

// AddInstance adds a reading of one device or operation.
func (t *Tick) AddInstance(m Metric, instance string, v int64) {
	t.Readings = append(t.Readings, Reading{Series{m, instance}, v})
}

// Reset empties the tick and keeps its memory.
func (t *Tick) Reset() { t.Readings = t.Readings[:0] }
