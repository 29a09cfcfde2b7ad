// Package spool keeps a board's readings in bounded memory until the collector
// has acknowledged them.
//
// It owns the ticks of one session: their numbers, times and eras. The memory has a layout of its
// own (layout.go), so that a mapped file without a disk (Create) carries it from one process of the
// daemon to the next (Restore). Restored memory is checked like a stranger's message. A spool never
// writes to a disk, so its ticks are gone when the board stops. After a crash of the board nobody
// can know how many there were, since their numbers are gone with them.
package spool

import (
	"hash/crc32"
	"math/bits"
	"math/rand/v2"
	"slices"

	"bramble/pisensor/report"
)

// MinBytes is the minimum memory of a spool: a few blocks, without which nothing can be kept.
const MinBytes = 5 * blockSize

// Spool keeps ticks until they are acknowledged. Ticks are numbered from 1. A
// full spool drops its oldest block and counts the readings, unless its owner
// asks for Room first. It is not safe for concurrent use.
type Spool struct {
	head  *header
	limit int       // most blocks
	free  []*block  // of mapped memory: all that are free; else at most one
	live  []segment // by tick number; the last one grows
	keep  bool      // memory is mapped: free blocks are not left to the garbage collector

	series   []report.Series // the session's dictionary
	numbers  map[report.Series]uint8
	order    []uint8 // numbers of the last tick's readings as they came: mostly also the next one's
	overflow bool    // a series found no place in the dictionary

	code    coder   // state of the growing block
	grows   bool    // the last block is the one that code belongs to
	reader  decoder // of Fill, so that it allocates nothing
	scratch []byte  // one encoded tick
	now     values
	columns [report.MaxColumns][]int64

	readings int
	refused  int64
	last     int64 // elapsed time of the newest tick that was restored
	mapped   []byte
}

// segment is a block in use.
type segment struct {
	*block
	first uint64
	ticks int
	left  int // that still wait for their acknowledgement
}

func (s *segment) end() uint64 { return s.first + uint64(s.ticks) }

// New returns an empty spool of so many bytes, at least MinBytes, on the heap,
// with a session of its own. Its memory is taken as it is needed.
func New(bytes int) *Spool {
	s := &Spool{head: new(header), limit: bytes/blockSize - 1, numbers: make(map[report.Series]uint8, report.MaxColumns)}
	s.begin(bytes, "")
	return s
}

// begin writes the header of a new session. The magic comes last: until then
// the memory is not a spool.
func (s *Spool) begin(bytes int, board string) {
	h := s.head
	h.bytes = uint64(bytes)
	for h.session = 0; h.session == 0; {
		h.session = rand.Uint32()
	}
	h.setNext(1)
	h.setAnchor(unanchored)
	copy(h.board[:], board)
	h.sum.Store(h.identity())
	h.dictionary.Store(h.guardSeries(0))
	copy(h.magic[:], magic)
}

// Session returns the number that the ticks' reports carry, never 0.
func (s *Spool) Session() uint32 { return s.head.session }

// Next returns the number of the next tick.
func (s *Spool) Next() uint64 { return s.head.next.Load() }

// Readings returns how many readings wait.
func (s *Spool) Readings() int { return s.readings }

// Empty reports whether no tick waits.
func (s *Spool) Empty() bool { return len(s.live) == 0 }

// Full reports whether the next block takes the place of the oldest.
func (s *Spool) Full() bool { return len(s.live) == s.limit }

// Dropped returns how many readings the session has lost: to a full spool, or
// to a board with more series than a report holds.
func (s *Spool) Dropped() uint64 { return s.head.dropped.Load() }

// Refused returns how often something was refused: a block by Restore, or a
// whole spool (Refuse). Nobody can say how many readings it held.
func (s *Spool) Refused() int64 { return s.refused }

// Refuse counts that another spool was refused in favour of this one.
func (s *Spool) Refuse() { s.refused++ }

// Last returns the elapsed time of the newest restored tick in ms, 0 where there is none.
func (s *Spool) Last() int64 { return s.last }

// Anchor returns the anchor of the current era, and false while it is unknown.
func (s *Spool) Anchor() (int64, bool) {
	a := s.head.anchor.Load()
	return a, a != unanchored
}

// SetAnchor begins an era: ticks from now on lie at anchor + elapsed, Unix ms.
// The session's first anchor also places the ticks that wait for one. Ticks
// that have an anchor keep it.
func (s *Spool) SetAnchor(anchor int64) {
	s.head.setAnchor(anchor)
	for i := range s.live {
		if s.live[i].anchor.Load() == unanchored {
			s.live[i].setAnchor(anchor)
		}
	}
}

// Add keeps a tick of the current era and returns its number. Elapsed is
// boot-relative, in ms, and later than that of the tick before.
func (s *Spool) Add(elapsed int64, readings []report.Reading) uint64 {
	s.number(readings)
	b := s.tail()
	s.scratch = s.code.append(s.scratch[:0], elapsed, &s.now)
	c := commitOf(b.commit.Load())
	if c.used+len(s.scratch)+c.ticks+1 > blockData {
		b, c = s.grow(), commit{}
		s.scratch = s.code.append(s.scratch[:0], elapsed, &s.now)
	}
	if c.ticks == 0 {
		c.sum = sumOf(b.first)
	}
	copy(b.data[c.used:], s.scratch)
	n := bits.OnesCount64(s.now.mask)
	*b.count(c.ticks) = byte(n)
	c = commit{sum: crc32.Update(c.sum, crc32.IEEETable, s.scratch), ticks: c.ticks + 1, used: c.used + len(s.scratch)}
	b.block.commit.Store(c.word())
	s.head.setNext(b.first + uint64(c.ticks))
	b.ticks++
	b.left++
	s.readings += n
	return b.first + uint64(c.ticks) - 1
}

// sumOf starts a block's checksum.
func sumOf(first uint64) uint32 {
	var b [8]byte
	for i := range b {
		b[i] = byte(first >> (8 * i))
	}
	return crc32.ChecksumIEEE(b[:])
}

// number sorts the readings by their series' numbers. It drops and counts
// those of series beyond a board's limit, and a second one of the same series.
func (s *Spool) number(readings []report.Reading) {
	if s.overflow && s.Empty() { // nothing refers to the dictionary: begin another
		s.overflow, s.series = false, s.series[:0]
		clear(s.numbers)
		s.head.dictionary.Store(s.head.guardSeries(0))
		s.head.series.Store(0)
		s.code.reset()
	}
	s.now.mask = 0
	for i := range readings {
		n, ok := s.find(i, readings[i].Series)
		if !ok || s.now.mask&(1<<n) != 0 {
			s.head.dropped.Add(1)
			continue
		}
		s.now.mask |= 1 << n
		s.now.of[n] = readings[i].Value
	}
}

// find returns the number of the series of a tick's reading i.
func (s *Spool) find(i int, series report.Series) (n uint8, ok bool) {
	if i < len(s.order) {
		if n = s.order[i]; int(n) < len(s.series) && s.series[n] == series {
			return n, true
		}
	}
	if n, ok = s.numbers[series]; !ok {
		n, ok = s.learn(series)
	}
	if ok {
		s.order = append(s.order[:min(i, len(s.order))], n)
	}
	return n, ok
}

func (s *Spool) learn(series report.Series) (uint8, bool) {
	n := len(s.series)
	if n == report.MaxColumns || !series.Valid() {
		s.overflow = s.overflow || n == report.MaxColumns
		return 0, false
	}
	s.series = append(s.series, series)
	s.numbers[series] = uint8(n)
	s.head.entries[n].set(series)
	s.head.dictionary.Store(s.head.guardSeries(n + 1)) // before it is used; see check
	s.head.series.Store(uint32(n + 1))
	return uint8(n), true
}

// tail returns the block that the next tick goes to.
func (s *Spool) tail() *segment {
	if n := len(s.live); n > 0 && s.grows {
		if b := &s.live[n-1]; b.ticks < blockTicks && b.anchor.Load() == s.head.anchor.Load() {
			return b
		}
	}
	return s.grow()
}

// grow starts a new block, in place of the oldest one where the spool is full.
func (s *Spool) grow() *segment {
	if s.Full() {
		s.drop()
	}
	var b *block
	if n := len(s.free); n > 0 {
		b, s.free = s.free[n-1], s.free[:n-1]
	} else {
		b = new(block)
	}
	b.start(s.Next(), s.head.anchor.Load())
	s.live = append(s.live, segment{block: b, first: s.Next()})
	s.code.reset()
	s.grows = true
	return &s.live[len(s.live)-1]
}

func (s *Spool) drop() {
	oldest := &s.live[0]
	lost := 0
	for i := range oldest.ticks {
		if !oldest.isAcked(i) {
			lost += int(*oldest.count(i))
		}
	}
	s.head.dropped.Add(uint64(lost))
	s.readings -= lost
	s.remove(0)
}

// remove frees a block.
func (s *Spool) remove(i int) {
	b := s.live[i].block
	b.commit.Store(0)
	if s.keep || len(s.free) == 0 {
		s.free = append(s.free, b)
	}
	s.grows = s.grows && i < len(s.live)-1
	s.live = slices.Delete(s.live, i, i+1)
}

// HasSpace reports whether one more tick fits without dropping anything.
func (s *Spool) HasSpace() bool {
	if !s.Full() {
		return true
	}
	b := &s.live[len(s.live)-1]
	c := commitOf(b.commit.Load())
	return s.grows && c.ticks < blockTicks && c.used+c.ticks+maxTick <= blockData
}

// Ack forgets the ticks of a range. Ranges are the collector's claim: they may name ticks that
// never existed.
func (s *Spool) Ack(r report.Range) {
	end := min(r.First+r.Count, s.Next()) // r.First ≤ 2⁶², r.Count ≤ 2³² (report.DecodeAck)
	for i := 0; i < len(s.live); i++ {
		b := &s.live[i]
		from, to := max(r.First, b.first), min(end, b.end())
		for n := from; n < to; n++ {
			s.ackOne(b, int(n-b.first))
		}
		if from < to {
			b.acks.Store(b.guardAcks())
		}
		if b.left == 0 {
			s.remove(i)
			i--
		}
	}
}

func (s *Spool) ackOne(b *segment, i int) {
	if b.isAcked(i) {
		return
	}
	b.ack(i)
	b.left--
	s.readings -= int(*b.count(i))
}
