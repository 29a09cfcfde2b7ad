package spool

import (
	"encoding/binary"
	"math/bits"

	"bramble/pisensor/report"
)

// values are a tick's readings by the numbers of their series in the
// dictionary; bit n of mask says that value n is there.
type values struct {
	mask uint64
	of   [report.MaxColumns]int64
}

// coder writes ticks into a block, each against the one before it:
//
//	Δelapsed shape Δvalue each, in the order of the series' numbers
//
// where shape is 0 when the tick has the same series as the one before, else 1
// and the mask of its series (8 bytes, LE).
type coder struct {
	elapsed int64
	last    values
}

// reset begins a block.
func (c *coder) reset() { *c = coder{} }

func (c *coder) append(dst []byte, elapsed int64, v *values) []byte {
	dst = binary.AppendUvarint(dst, uint64(elapsed-c.elapsed))
	c.elapsed = elapsed
	if v.mask == c.last.mask {
		dst = append(dst, 0)
	} else {
		dst = binary.LittleEndian.AppendUint64(append(dst, 1), v.mask)
		c.last.mask = v.mask
	}
	for m := v.mask; m != 0; m &= m - 1 {
		n := bits.TrailingZeros64(m)
		dst = binary.AppendVarint(dst, v.of[n]-c.last.of[n])
		c.last.of[n] = v.of[n]
	}
	return dst
}

// maxTick is the largest encoded tick, its count included.
const maxTick = binary.MaxVarintLen64 + 1 + 8 + report.MaxColumns*binary.MaxVarintLen64 + 1

// decoder reads a block back.
type decoder struct {
	b       []byte
	elapsed int64
	values  values
}

func (d *decoder) open(b []byte) { *d = decoder{b: b} }

// next reads a tick. It returns false where the bytes are not one, which only
// a block from elsewhere can show.
func (d *decoder) next() bool {
	step, n := binary.Uvarint(d.b)
	if n <= 0 || len(d.b) == n {
		return false
	}
	d.elapsed += int64(step)
	shape := d.b[n]
	d.b = d.b[n+1:]
	switch {
	case shape == 0:
	case shape == 1 && len(d.b) >= 8:
		d.values.mask = binary.LittleEndian.Uint64(d.b)
		d.b = d.b[8:]
	default:
		return false
	}
	for m := d.values.mask; m != 0; m &= m - 1 {
		v, n := binary.Varint(d.b)
		if n <= 0 {
			return false
		}
		d.b = d.b[n:]
		d.values.of[bits.TrailingZeros64(m)] += v
	}
	return true
}
