package report

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// Version is the codec's version, in the upper half of a message's first byte. A decoder refuses
// other versions. New metrics, attributes and flags do not change it.
const Version = 1

// kind is the lower half of a message's first byte.
type kind byte

const (
	kindReport  kind = 1
	kindHello   kind = 2
	kindAck     kind = 3
	kindControl kind = 4
)

func lead(k kind) byte { return Version<<4 | byte(k) }

// Flags of a report. Unknown ones are refused: they may change the meaning of the bytes behind
// them.
const (
	flagGoodbye = 1 << iota
	flagInfo
	flagAckLater
)

// Flags in the low bits of a column's key.
const (
	columnInstance = 1 << iota // an instance name follows
	columnSparse               // a bitmap of present ticks follows
	columnConstant             // the first value is that of all ticks
	columnShift    = iota
)

// Append encodes the report behind dst.
//
//	lead flags session(4, LE) anchor due first ticks
//	elapsed₀ Δelapsed₁ ΔΔelapsed₂ …
//	columns, each: metric·flags [length instance] [bitmap] value₀ Δvalue₁ …
//	[attributes, each: key length text]
//
// A length of 0 means the instance of the last column that has one. Unsigned numbers are uvarints,
// signed ones zigzag varints (encoding/binary).
func (r *Report) Append(dst []byte) []byte {
	dst = append(dst, lead(kindReport), r.flags())
	dst = binary.LittleEndian.AppendUint32(dst, r.Session)
	dst = binary.AppendVarint(dst, r.Anchor)
	dst = binary.AppendUvarint(dst, uint64(r.Due))
	dst = binary.AppendUvarint(dst, r.First)
	dst = binary.AppendUvarint(dst, uint64(len(r.Elapsed)))
	dst = appendTimes(dst, r.Elapsed)
	dst = binary.AppendUvarint(dst, uint64(len(r.Columns)))
	device := ""
	for i := range r.Columns {
		dst = r.Columns[i].append(dst, device)
		device = cmp.Or(r.Columns[i].Series.Instance, device)
	}
	if len(r.Info) > 0 {
		dst = binary.AppendUvarint(dst, uint64(len(r.Info)))
		for _, a := range r.Info {
			dst = append(dst, byte(a.Key))
			dst = appendString(dst, a.Value)
		}
	}
	return dst
}

func (r *Report) flags() (f byte) {
	if r.Goodbye {
		f |= flagGoodbye
	}
	if len(r.Info) > 0 {
		f |= flagInfo
	}
	if r.AckLater {
		f |= flagAckLater
	}
	return f
}

// appendTimes writes the first time, the first step, and then how each step
// differs from the one before: zero for an even rhythm.
func appendTimes(dst []byte, times []int64) []byte {
	var last, step int64
	for i, t := range times {
		switch i {
		case 0:
			dst = binary.AppendUvarint(dst, uint64(t))
		case 1:
			step = t - last
			dst = binary.AppendUvarint(dst, uint64(step))
		default:
			dst = binary.AppendVarint(dst, t-last-step)
			step = t - last
		}
		last = t
	}
	return dst
}

// append writes a column. before is the instance of the last column that has one.
func (c *Column) append(dst []byte, before string) []byte {
	key := uint64(c.Series.Metric) << columnShift
	if c.Series.Instance != "" {
		key |= columnInstance
	}
	sparse := slices.Contains(c.Values, Missing)
	if sparse {
		key |= columnSparse
	}
	constant := c.constant()
	if constant {
		key |= columnConstant
	}
	dst = binary.AppendUvarint(dst, key)
	switch c.Series.Instance {
	case "":
	case before:
		dst = append(dst, 0)
	default:
		dst = appendString(dst, c.Series.Instance)
	}
	if sparse {
		dst = appendBitmap(dst, c.Values)
	}
	var last int64
	for _, v := range c.Values {
		if v == Missing {
			continue
		}
		dst = binary.AppendVarint(dst, v-last)
		last = v
		if constant {
			break
		}
	}
	return dst
}

// constant reports whether all present values are equal, and at least two are there.
func (c *Column) constant() bool {
	first, n := int64(Missing), 0
	for _, v := range c.Values {
		switch {
		case v == Missing:
			continue
		case n == 0:
			first = v
		case v != first:
			return false
		}
		n++
	}
	return n > 1
}

func appendBitmap(dst []byte, values []int64) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, (len(values)+7)/8)...)
	for i, v := range values {
		if v != Missing {
			dst[start+i/8] |= 1 << (i % 8)
		}
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}
