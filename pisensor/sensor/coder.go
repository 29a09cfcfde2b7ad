package sensor

import (
	"encoding/binary"
	"slices"

	"bramble/pisensor/report"
)

// coder writes ticks into a chunk, each against the one before it:
//
//	Δelapsed shape [series number each] Δvalue each
//
// where shape is 0 when the tick has the same series in the same order as the
// one before, else their count plus 1.
type coder struct {
	started bool
	elapsed int64
	shape   []uint8
	values  [report.MaxColumns]int64
}

// reset begins a chunk.
func (c *coder) reset() {
	*c = coder{shape: c.shape[:0]}
}

func (c *coder) append(dst []byte, elapsed int64, shape []uint8, readings []report.Reading) []byte {
	dst = binary.AppendVarint(dst, elapsed-c.elapsed)
	c.elapsed = elapsed
	if c.started && slices.Equal(shape, c.shape) {
		dst = append(dst, 0)
	} else {
		dst = binary.AppendUvarint(dst, uint64(len(shape))+1)
		dst = append(dst, shape...)
		c.shape = append(c.shape[:0], shape...)
		c.started = true
	}
	for i, n := range shape {
		dst = binary.AppendVarint(dst, readings[i].Value-c.values[n])
		c.values[n] = readings[i].Value
	}
	return dst
}

// decoder reads a chunk back. It trusts its bytes: they never left the process.
type decoder struct {
	b       []byte
	elapsed int64
	shape   []uint8
	values  [report.MaxColumns]int64
}

func (d *decoder) open(b []byte) { *d = decoder{b: b} }

func (d *decoder) next() {
	d.elapsed += d.varint()
	n, width := binary.Uvarint(d.b)
	d.b = d.b[width:]
	if n > 0 {
		d.shape, d.b = d.b[:n-1], d.b[n-1:]
	}
	for _, s := range d.shape {
		d.values[s] += d.varint()
	}
}

func (d *decoder) varint() int64 {
	v, width := binary.Varint(d.b)
	d.b = d.b[width:]
	return v
}
