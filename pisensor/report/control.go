package report

import "encoding/binary"

// Line is a threshold that a rule draws on one metric: near it the sensor
// samples faster. Level is in the metric's wire unit.
type Line struct {
	Metric Metric
	Level  int64
}

// Limits of a control message: a board refuses the whole message if it has more lines or watchers.
const (
	MaxLines    = 64
	MaxWatchers = 1000
)

// Control is the collector's request to a sensor. The sensor caps each part of it; nothing here can
// make it cost more than its budget allows.
type Control struct {
	// Lease asks for live mode (one reading a second) for so many milliseconds
	// from now; it ends by itself. 0 leaves a running lease alone.
	Lease int64
	// Watchers is the number of people who look at the board, for its owner. It counts only with a
	// lease.
	Watchers uint64
	// SetLines says that Lines replace the ones that the sensor knows.
	SetLines bool
	Lines    []Line
}

const flagLines = 1

// Append encodes the control message behind dst.
func (c *Control) Append(dst []byte) []byte {
	dst = append(dst, lead(kindControl))
	dst = binary.AppendUvarint(dst, uint64(c.Lease))
	dst = binary.AppendUvarint(dst, c.Watchers)
	if !c.SetLines {
		return append(dst, 0)
	}
	dst = append(dst, flagLines)
	dst = binary.AppendUvarint(dst, uint64(len(c.Lines)))
	for _, l := range c.Lines {
		dst = binary.AppendUvarint(dst, uint64(l.Metric))
		dst = binary.AppendVarint(dst, l.Level)
	}
	return dst
}

// DecodeControl takes a control message apart. Its error wraps ErrMalformed.
func DecodeControl(b []byte) (Control, error) {
	d := open(b, kindControl, maxMessage)
	c := Control{Lease: int64(d.limited("lease", maxTime)), Watchers: d.limited("watchers", 1<<20)}
	switch flags := d.byte(); flags {
	case 0:
	case flagLines:
		c.SetLines = true
		for range d.limited("line count", maxRanges) {
			c.Lines = append(c.Lines, Line{Metric: Metric(d.limited("metric", 1<<16-1)), Level: d.varint()})
		}
	default:
		d.fail("unknown flags 0x%02x", flags)
	}
	return c, d.close()
}
