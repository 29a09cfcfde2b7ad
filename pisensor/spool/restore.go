package spool

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
	"slices"
	"unsafe"

	"bramble/pisensor/report"
)

// A spool's memory is cut into blocks of these sizes.
const (
	_ = uint(blockSize - unsafe.Sizeof(header{}))
	_ = uint(blockSize - unsafe.Sizeof(block{}))
	_ = uint(entrySize - unsafe.Sizeof(entry{}))
)

// errNotOurs is why a whole memory is refused.
var errNotOurs = errors.New("not a spool of this board and this layout")

// over lays a spool over mapped memory, which is a whole number of blocks.
func over(mem []byte) (*Spool, []*block) {
	s := &Spool{
		head: (*header)(unsafe.Pointer(&mem[0])), limit: len(mem)/blockSize - 1, keep: true, mapped: mem,
		numbers: make(map[report.Series]uint8, report.MaxColumns),
	}
	blocks := make([]*block, s.limit)
	for i := range blocks {
		blocks[i] = (*block)(unsafe.Pointer(&mem[(i+1)*blockSize]))
	}
	return s, blocks
}

// fresh begins a session in mapped memory and drops its old content.
func fresh(mem []byte, board string) *Spool {
	s, blocks := over(mem)
	clear(s.head.magic[:])
	for _, b := range blocks {
		b.commit.Store(0)
	}
	s.head.series.Store(0)
	s.head.dropped.Store(0)
	clear(s.head.board[:])
	s.begin(len(mem), board)
	slices.Reverse(blocks) // memory is touched from its start, as it is needed
	s.free = blocks
	return s
}

// restore takes over the spool that an earlier process of this board left in mapped memory, at
// boot-relative time now in ms. All of it is checked: an error means that nothing was taken; single
// damaged blocks are dropped and counted.
func restore(mem []byte, board string, now int64) (*Spool, error) {
	s, blocks := over(mem)
	if err := s.check(len(mem), board); err != nil {
		return nil, err
	}
	for _, b := range blocks {
		s.adopt(b, now)
	}
	slices.Reverse(s.free)
	s.sort()
	if a, ok := s.Anchor(); ok {
		s.SetAnchor(a)
	}
	s.guard()
	return s, nil
}

// guard writes the guards of all that was restored: an older process knew none.
func (s *Spool) guard() {
	h := s.head
	h.sum.Store(h.identity())
	h.dictionary.Store(h.guardSeries(len(s.series)))
	h.setAnchor(h.anchor.Load())
	for _, b := range s.live {
		b.setAnchor(b.anchor.Load())
		b.acks.Store(b.guardAcks())
	}
}

// check checks the header, and reads the dictionary.
func (s *Spool) check(size int, board string) error {
	h := s.head
	a := h.anchor.Load()
	switch {
	case string(h.magic[:]) != magic:
		return fmt.Errorf("%w: it begins with %q", errNotOurs, h.magic)
	case h.bytes != uint64(size):
		return fmt.Errorf("%w: it says that it has %d bytes", errNotOurs, h.bytes)
	case string(bytes.TrimRight(h.board[:], "\x00")) != board:
		return fmt.Errorf("%w: it is of board %q", errNotOurs, bytes.TrimRight(h.board[:], "\x00"))
	case h.session == 0 || h.next.Load() == 0 || h.next.Load() > maxNumber || h.dropped.Load() > maxNumber || !anchorOK(a):
		return fmt.Errorf("%w: session %d, next tick %d, %d dropped, anchor %d", errNotOurs, h.session, h.next.Load(), h.dropped.Load(), a)
	case h.series.Load() > report.MaxColumns:
		return fmt.Errorf("%w: %d series", errNotOurs, h.series.Load())
	case !h.guarded():
		return fmt.Errorf("%w: its header is damaged", errNotOurs)
	}
	if is := h.anchorCopy.Load(); is != 0 && is != a {
		h.setAnchor(unanchored) // damaged, or of a process that died between the two: the collector says it again
	}
	for i := range h.series.Load() {
		series, ok := h.entries[i].get()
		if _, twice := s.numbers[series]; !ok || twice {
			return fmt.Errorf("%w: series %d is %v", errNotOurs, i, series)
		}
		s.series = append(s.series, series)
		s.numbers[series] = uint8(i)
	}
	return nil
}

// guarded reports whether the header is undamaged, but for a step that its process did not finish.
func (h *header) guarded() bool {
	sum, dictionary, next := h.sum.Load(), h.dictionary.Load(), h.nextCopy.Load()
	if sum != 0 && sum != h.identity() || next != 0 && next != h.next.Load() && next+1 != h.next.Load() {
		return false
	}
	n := int(h.series.Load())
	if n < report.MaxColumns && dictionary == h.guardSeries(n+1) {
		n++
		h.series.Store(uint32(n))
	}
	return dictionary == 0 || dictionary == h.guardSeries(n)
}

// The largest numbers that a report carries (report.Decode).
const (
	maxNumber = 1 << 62
	maxTime   = 1e13
)

func anchorOK(a int64) bool { return a == unanchored || a >= -maxTime && a <= maxTime }

// adopt takes a block that waits and frees every other one.
func (s *Spool) adopt(b *block, now int64) {
	c := commitOf(b.commit.Load())
	if c != (commit{}) {
		x := segment{block: b, first: b.first.Load(), ticks: c.ticks}
		switch ok := s.whole(&x, c, now); {
		case !ok:
			s.refused++
		case b.left(c.ticks) > 0:
			x.left = b.left(c.ticks)
			s.live = append(s.live, x)
			return
		}
	}
	b.commit.Store(0)
	s.free = append(s.free, b)
}

// whole checks that a block's ticks are undamaged and that the collector would accept them.
func (s *Spool) whole(b *segment, c commit, now int64) bool {
	if c.ticks == 0 || c.ticks > blockTicks || c.used+c.ticks > blockData || b.first == 0 || b.first > maxNumber ||
		!b.checkAnchor() || crc32.Update(sumOf(b.first), crc32.IEEETable, b.data[:c.used]) != c.sum {
		return false
	}
	known := uint64(1)<<len(s.series) - 1 // 1<<64 is 0
	d := &s.reader
	d.open(b.data[:c.used])
	last := int64(-1)
	for i := range c.ticks {
		if !d.next() || d.elapsed <= last || d.elapsed > min(now, maxTime) ||
			d.values.mask&^known != 0 {
			return false
		}
		*b.count(i) = byte(bits.OnesCount64(d.values.mask))
		last = d.elapsed
	}
	b.checkAcks()
	return len(d.b) == 0
}

// sort brings the adopted blocks in order, and drops those that contradict the
// ones before: the same numbers again, or times that go back.
func (s *Spool) sort() {
	slices.SortFunc(s.live, func(a, b segment) int { return cmp.Compare(a.first, b.first) })
	var end uint64
	s.last = -1
	for i := 0; i < len(s.live); i++ {
		b := &s.live[i]
		from, to := s.span(b)
		if b.first < end || from <= s.last {
			s.refused++
			s.remove(i)
			i--
			continue // its ticks are duplicates or damaged
		}
		end, s.last = b.end(), to
		for k := range b.ticks {
			if !b.isAcked(k) {
				s.readings += int(*b.count(k))
			}
		}
	}
	s.last = max(s.last, 0)
	s.head.setNext(max(s.head.next.Load(), end))
}

// span returns the times of a block's first and last tick.
func (s *Spool) span(b *segment) (from, to int64) {
	d := &s.reader
	d.open(b.data[:commitOf(b.commit.Load()).used])
	d.next()
	from = d.elapsed
	for d.next() {
	}
	return from, d.elapsed
}
