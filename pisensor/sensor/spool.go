package sensor

import (
	"encoding/binary"
	"slices"

	"bramble/pisensor/report"
)

const (
	// chunkSize is the spool's unit of memory and of dropping, in bytes: at
	// the default rate some 20 minutes of readings.
	chunkSize = 4096
	// chunkTicks bounds the ticks of a chunk.
	chunkTicks = 256
	// chunkOverhead is what a chunk needs beside its bytes.
	chunkOverhead = 512
)

// chunk holds consecutive ticks of one era, delta-coded against each other.
type chunk struct {
	era    int
	first  uint64  // number of the first tick
	counts []uint8 // readings of each tick
	acked  [chunkTicks / 64]uint64
	left   int // ticks that still wait for their acknowledgement
	buf    []byte
}

func (c *chunk) isAcked(i int) bool { return c.acked[i/64]&(1<<(i%64)) != 0 }

// spool keeps ticks until they are acknowledged, in bounded memory. Ticks are
// numbered from 1. A full spool drops its oldest chunk and counts the readings,
// unless its owner asks for room first. It is not safe for concurrent use.
type spool struct {
	limit  int      // most chunks
	chunks []*chunk // by tick number; the last one grows
	free   *chunk   // one emptied chunk, so that steady state allocates nothing
	next   uint64   // number of the next tick

	series  []report.Series // the session's dictionary
	numbers map[report.Series]uint8

	code    coder   // state of the growing chunk
	reader  decoder // of fill, so that it allocates nothing
	scratch []byte  // one encoded tick
	shape   []uint8

	readings int    // waiting
	dropped  uint64 // readings that a full spool or dictionary lost
}

func newSpool(bytes int) *spool {
	return &spool{
		limit: bytes / (chunkSize + chunkOverhead), next: 1,
		numbers: make(map[report.Series]uint8, report.MaxColumns),
	}
}

// add keeps a tick, whose number it returns.
func (s *spool) add(era int, elapsed int64, readings []report.Reading) uint64 {
	readings = s.known(readings)
	c := s.tail(era)
	s.scratch = s.code.append(s.scratch[:0], elapsed, s.shape, readings)
	if len(c.buf)+len(s.scratch) > chunkSize {
		c = s.grow(era)
		s.scratch = s.code.append(s.scratch[:0], elapsed, s.shape, readings)
	}
	c.buf = append(c.buf, s.scratch...)
	c.counts = append(c.counts, uint8(len(readings)))
	c.left++
	s.readings += len(readings)
	s.next++
	return s.next - 1
}

// known looks the readings' series up in the dictionary and drops those of
// series beyond the limit of a board.
func (s *spool) known(readings []report.Reading) []report.Reading {
	s.shape = s.shape[:0]
	kept := readings[:0]
	for _, r := range readings {
		n, ok := s.numbers[r.Series]
		if !ok {
			if len(s.series) == report.MaxColumns {
				s.dropped++
				continue
			}
			n = uint8(len(s.series))
			s.series = append(s.series, r.Series)
			s.numbers[r.Series] = n
		}
		if slices.Contains(s.shape, n) || len(kept) == report.MaxColumns {
			s.dropped++ // a second reading of one series in one instant
			continue
		}
		s.shape = append(s.shape, n)
		kept = append(kept, r)
	}
	return kept
}

// tail returns the chunk that the next tick goes to.
func (s *spool) tail(era int) *chunk {
	if n := len(s.chunks); n > 0 {
		if c := s.chunks[n-1]; c.era == era && len(c.counts) < chunkTicks {
			return c
		}
	}
	return s.grow(era)
}

// grow starts a new chunk, in place of the oldest one where the spool is full.
func (s *spool) grow(era int) *chunk {
	if len(s.chunks) >= s.limit {
		s.drop()
	}
	c := s.free
	if s.free = nil; c == nil {
		c = &chunk{buf: make([]byte, 0, chunkSize), counts: make([]uint8, 0, chunkTicks)}
	}
	*c = chunk{era: era, first: s.next, buf: c.buf[:0], counts: c.counts[:0]}
	s.chunks = append(s.chunks, c)
	s.code.reset()
	return c
}

func (s *spool) drop() {
	oldest := s.chunks[0]
	for i, n := range oldest.counts {
		if !oldest.isAcked(i) {
			s.dropped += uint64(n)
			s.readings -= int(n)
		}
	}
	s.remove(0)
}

func (s *spool) remove(i int) {
	s.free = s.chunks[i]
	s.chunks = slices.Delete(s.chunks, i, i+1)
}

// room reports whether one more tick fits without dropping anything.
func (s *spool) room() bool {
	if len(s.chunks) < s.limit {
		return true
	}
	c := s.chunks[len(s.chunks)-1]
	return len(c.counts) < chunkTicks && len(c.buf)+maxTick <= chunkSize
}

// ack forgets the ticks of a range. Ranges are the collector's word: they may
// name what was never there.
func (s *spool) ack(r report.Range) {
	end := min(r.First+r.Count, s.next) // r.First ≤ 2⁶², r.Count ≤ 2³² (report.DecodeAck)
	for i := 0; i < len(s.chunks); i++ {
		c := s.chunks[i]
		from, to := max(r.First, c.first), min(end, c.first+uint64(len(c.counts)))
		for n := from; n < to; n++ {
			s.ackOne(c, int(n-c.first))
		}
		if c.left == 0 {
			s.remove(i)
			i--
		}
	}
}

func (s *spool) ackOne(c *chunk, i int) {
	if c.isAcked(i) {
		return
	}
	c.acked[i/64] |= 1 << (i % 64)
	c.left--
	s.readings -= int(c.counts[i])
}

// run finds the first unacknowledged ticks from number from up to, but not
// with, number to: consecutive, of one era that known accepts, at most most.
func (s *spool) run(from, to uint64, most int, known func(era int) bool) (first uint64, count int) {
	era := -1
	for _, c := range s.chunks {
		if count == 0 && !known(c.era) || c.first+uint64(len(c.counts)) <= from {
			continue
		}
		if count > 0 && (c.era != era || c.first != first+uint64(count)) {
			return first, count
		}
		for i := range c.counts {
			n := c.first + uint64(i)
			switch {
			case n < from:
			case n >= to || count == most:
				return first, count
			case !c.isAcked(i):
				if count == 0 {
					first, era = n, c.era
				}
				count++
			case count > 0:
				return first, count
			}
		}
	}
	return first, count
}

// waits reports whether any tick of the range is neither acknowledged nor dropped.
func (s *spool) waits(first uint64, count int) bool {
	_, n := s.run(first, first+uint64(count), 1, func(int) bool { return true })
	return n > 0
}

// fill lays count ticks from first into the report's times and columns. The
// ticks must be there, as run found them.
func (s *spool) fill(r *report.Report, first uint64, count int) {
	end := first + uint64(count)
	s.each(first, end, func(_ int, d *decoder) { r.Elapsed = append(r.Elapsed, d.elapsed) })
	var columns [report.MaxColumns][]int64
	s.each(first, end, func(i int, d *decoder) {
		for _, n := range d.shape {
			if columns[n] == nil {
				columns[n] = r.Column(s.series[n])
			}
			columns[n][i] = d.values[n]
		}
	})
}

// each decodes the ticks from first up to end, counted from 0.
func (s *spool) each(first, end uint64, visit func(i int, d *decoder)) {
	d := &s.reader
	for _, c := range s.chunks {
		last := c.first + uint64(len(c.counts))
		if last <= first || c.first >= end {
			continue
		}
		d.open(c.buf)
		for n := c.first; n < min(last, end); n++ {
			d.next()
			if n >= first {
				visit(int(n-first), d)
			}
		}
	}
}

// eraOf returns the era of a tick that the spool holds.
func (s *spool) eraOf(seq uint64) int {
	for _, c := range s.chunks {
		if seq >= c.first && seq < c.first+uint64(len(c.counts)) {
			return c.era
		}
	}
	return -1
}

// maxTick is the largest encoded tick: three numbers, and a series and a value each.
const maxTick = 3*binary.MaxVarintLen64 + report.MaxColumns*(1+binary.MaxVarintLen64)
