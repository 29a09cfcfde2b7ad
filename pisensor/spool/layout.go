package spool

import (
	"encoding/binary"
	"hash/crc32"
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
	// blockHead is the size of a block's header, in bytes.
	blockHead = 64
	// blockData is the space for ticks, in bytes.
	blockData = blockSize - blockHead

	// unanchored stands where an era's place on the wall clock is not known yet.
	unanchored = math.MinInt64
)

// magic begins the memory. Its last byte is the layout's version: any change below needs another version, and an older
// spool is then refused.
const magic = "brspool\x01"

// header is the first block: the values that all ticks share. Fields that change are atomic, so that a process that dies
// between two instructions leaves either the old or the new.
type header struct {
	magic   [8]byte
	bytes   uint64 // of the whole memory
	session uint32
	series  atomic.Uint32 // entries of the dictionary
	next    atomic.Uint64 // number of the next tick
	anchor  atomic.Int64  // of the current era, or unanchored
	dropped atomic.Uint64 // readings
	board   [64]byte      // whose ticks these are, padded with zeros
	entries [report.MaxColumns]entry
	// Guards are written after the values that they guard, so that a process that dies in between leaves a guard that is
	// one step behind; 0 comes from a process without guards.
	sum        atomic.Uint64 // of the values that stay: see identity
	dictionary atomic.Uint64 // see guardSeries
	nextCopy   atomic.Uint64
	anchorCopy atomic.Int64
	reserved   [blockSize - 112 - report.MaxColumns*entrySize - 32]byte
}

func (h *header) setNext(n uint64) {
	h.next.Store(n)
	h.nextCopy.Store(n)
}

func (h *header) setAnchor(a int64) {
	h.anchor.Store(a)
	h.anchorCopy.Store(a)
}

// identity is the guard of the values that a session never changes.
func (h *header) identity() uint64 {
	b := binary.NativeEndian.AppendUint64(nil, h.bytes)
	b = append(binary.NativeEndian.AppendUint32(b, h.session), h.board[:]...)
	return guard(b)
}

// guard is never 0.
func guard(b []byte) uint64 { return 1<<32 | uint64(crc32.ChecksumIEEE(b)) }

// guardSeries is the guard of the first n entries: their number and their checksum in one word.
func (h *header) guardSeries(n int) uint64 {
	sum := uint32(0)
	for i := range h.entries[:n] {
		sum = h.entries[i].sum(sum)
	}
	return uint64(n+1)<<32 | uint64(sum)
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

// sum goes on with a checksum over the entry.
func (e *entry) sum(sum uint32) uint32 {
	sum = crc32.Update(sum, crc32.IEEETable, []byte{byte(e.metric), byte(e.metric >> 8), byte(e.size), byte(e.size >> 8)})
	return crc32.Update(sum, crc32.IEEETable, e.name[:])
}

// get returns the series, and false for one that no board can have written.
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
	place  atomic.Uint32 // guard of anchor; 0 = of a process that knew none
	acks   atomic.Uint32 // guard of acked; the same
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

// setAnchor places a block's ticks.
func (b *block) setAnchor(anchor int64) {
	b.anchor.Store(anchor)
	b.place.Store(guardAnchor(anchor))
}

func guardAnchor(anchor int64) uint32 { return guardOf(mixed(mixStart, uint64(anchor))) }

// guardAcks is the guard of the acknowledgements that are noted now.
func (b *block) guardAcks() uint32 {
	sum := mixStart
	for i := range b.acked {
		sum = mixed(sum, b.acked[i].Load())
	}
	return guardOf(sum)
}

// mixStart begins a sum of words: the offset basis of FNV-1a with 64 bits (datatracker.ietf.org/doc/html/rfc9923).
const mixStart uint64 = 14695981039346656037

// mixed goes on with FNV-1a over a word's bytes. Unlike those of hash/crc32, which go through a table of functions, they
// do not escape to the heap: these sums are made in every tick.
func mixed(sum, word uint64) uint64 {
	for range 8 {
		sum = (sum ^ word&0xff) * 1099511628211 // its prime
		word >>= 8
	}
	return sum
}

// guardOf folds a sum into a word that is never 0.
func guardOf(sum uint64) uint32 { return uint32(sum>>32^sum) | 1 }

// checkAnchor reports whether the anchor is undamaged. One of a process that died while it placed the block is as
// unknown as it was before.
func (b *block) checkAnchor() bool {
	switch b.place.Load() {
	case 0, guardAnchor(b.anchor.Load()):
		return anchorOK(b.anchor.Load())
	case guardAnchor(unanchored):
		b.setAnchor(unanchored)
		return true
	}
	return false
}

// checkAcks forgets acknowledgements that may be damaged, or half noted: the ticks are sent again, which is harmless.
func (b *block) checkAcks() {
	if is := b.acks.Load(); is == 0 || is == b.guardAcks() {
		return
	}
	for i := range b.acked {
		b.acked[i].Store(0)
	}
	b.acks.Store(b.guardAcks())
}

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
	b.setAnchor(anchor)
	for i := range b.acked {
		b.acked[i].Store(0)
	}
	b.acks.Store(b.guardAcks())
}
