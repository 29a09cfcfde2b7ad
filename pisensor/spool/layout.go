package spool

import (
	"math"
	"math/bits"
	"sync/atomic"

	"bramble/pisensor/report"
)

const (
	// blockSize is the spool's unit of memory and of dropping, in bytes: the
	// page of every kernel that a Pi runs, or a quarter of one.
	blockSize = 4096
	// blockTicks bounds the ticks of a block.
	blockTicks = 256
	// blockHead is what a block needs beside its ticks.
	blockHead = 64
	// blockData is what is left for ticks.
	blockData = blockSize - blockHead

	// unanchored stands where an era's place on the wall clock is not known yet.
	unanchored = math.MinInt64
)

// magic begins the memory. Its last byte is the layout's version: whatever
// changes below makes another one, and the older spool is refused.
const magic = "brspool\x01"

// header is the first block: what all ticks share. Fields that change are
// atomic, so that a process that dies between two instructions leaves either
// the old or the new.
type header struct {
	magic    [8]byte
	bytes    uint64 // of the whole memory
	session  uint32
	series   atomic.Uint32 // entries of the dictionary
	next     atomic.Uint64 // number of the next tick
	anchor   atomic.Int64  // of the current era, or unanchored
	dropped  atomic.Uint64 // readings
	board    [64]byte      // whose ticks these are, padded with zeros
	entries  [report.MaxColumns]entry
	reserved [blockSize - 112 - report.MaxColumns*entrySize]byte
}

const entrySize = 36

// entry is one series of the session's dictionary.
type entry struct {
	metric uint16
	size   uint16 // of the name
	name   [report.MaxInstance]byte
}

func (e *entry) set(s report.Series) {
	*e = entry{metric: uint16(s.Metric), size: uint16(len(s.Instance))}
	copy(e.name[:], s.Instance)
}

// get returns the series, and false for what no board can have written.
func (e *entry) get() (report.Series, bool) {
	if e.size > report.MaxInstance {
		return report.Series{}, false
	}
	s := report.Series{Metric: report.Metric(e.metric), Instance: string(e.name[:e.size])}
	return s, s.Valid()
}

// block holds consecutive ticks of one era. Their encodings grow from the
// start of data; one byte a tick, its number of readings, grows from the end.
type block struct {
	first  atomic.Uint64 // number of the first tick
	anchor atomic.Int64
	commit atomic.Uint64 // see commit; 0 = the block is free
	acked  [blockTicks / 64]atomic.Uint64
	_      uint64
	data   [blockData]byte
}

// commit says, in one word that is stored at once, how far a block is written:
// its ticks, their bytes, and the checksum of these bytes behind the first
// tick's number.
type commit struct {
	sum         uint32
	ticks, used int
}

func (c commit) word() uint64 { return uint64(c.sum)<<32 | uint64(c.ticks)<<16 | uint64(c.used) }

func commitOf(word uint64) commit {
	return commit{sum: uint32(word >> 32), ticks: int(word >> 16 & 0xffff), used: int(word & 0xffff)}
}

// count is where the number of readings of tick i stands.
func (b *block) count(i int) *byte { return &b.data[blockData-1-i] }

func (b *block) isAcked(i int) bool { return b.acked[i/64].Load()&(1<<(i%64)) != 0 }

func (b *block) ack(i int) { b.acked[i/64].Or(1 << (i % 64)) }

// left returns how many of the first ticks wait for their acknowledgement.
func (b *block) left(ticks int) int {
	n := ticks
	for i := range b.acked {
		w := b.acked[i].Load()
		if rest := ticks - i*64; rest < 64 {
			w &= 1<<max(rest, 0) - 1
		}
		n -= bits.OnesCount64(w)
	}
	return n
}

// start makes a free block hold nothing, from tick first on.
func (b *block) start(first uint64, anchor int64) {
	b.first.Store(first)
	b.anchor.Store(anchor)
	for i := range b.acked {
		b.acked[i].Store(0)
	}
}
