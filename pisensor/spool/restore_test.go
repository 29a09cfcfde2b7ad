package spool

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bramble/pisensor/report"
)

// waiting reads all reports that a spool would send through the codec: one that the collector would refuse is an error.
func waiting(t *testing.T, s *Spool) []report.Report {
	t.Helper()
	var all []report.Report
	for from := uint64(0); ; {
		first, n := s.Run(from, s.Next(), 100)
		if n == 0 {
			return all
		}
		var r, decoded report.Report
		s.Fill(&r, first, n)
		if err := decoded.Decode(r.Append(nil)); err != nil {
			t.Fatalf("ticks from %d: %v", first, err)
		}
		all = append(all, r)
		from = first + uint64(n)
	}
}

func same(t *testing.T, what string, got, want []report.Report) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(report.Report{}), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// some fills a spool with ticks of several blocks and eras, some acknowledged.
func some(s *Spool, ticks int64) {
	var day day
	var tick report.Tick
	for i := range ticks {
		if i == ticks/4 || i == ticks/2 {
			s.SetAnchor(1_700_000_000_000 + i)
		}
		tick.Reset()
		day.read(i, &tick)
		s.Add(i*10_000, tick.Readings)
	}
	for first := uint64(3); first < uint64(ticks); first += 50 {
		s.Ack(report.Range{First: first, Count: 7})
	}
}

func mapped(t *testing.T, ticks int64) (*Spool, *os.File) {
	t.Helper()
	s, f, err := Create(megabyte, "pi-1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	some(s, ticks)
	return s, f
}

func TestTheNextProcessGoesOnWhereTheLastStopped(t *testing.T) {
	s, f := mapped(t, 1000)
	want, readings, session, next := waiting(t, s), s.Readings(), s.Session(), s.Next()
	if err := s.Unmap(); err != nil {
		t.Fatal(err)
	}
	s, err := Restore(f, megabyte, "pi-1", 1000*10_000)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Unmap()
	same(t, "restored", waiting(t, s), want)
	if s.Readings() != readings || s.Session() != session || s.Next() != next || s.Refused() != 0 || s.Last() != 999*10_000 {
		t.Errorf("%d readings, session %d, next %d, %d refused, last at %d", s.Readings(), s.Session(), s.Next(), s.Refused(), s.Last())
	}
	if a, ok := s.Anchor(); !ok || a != 1_700_000_000_500 {
		t.Errorf("anchor %d, %v", a, ok)
	}
	var tick report.Tick
	tick.Add(report.Load1, 7)
	if n := s.Add(s.Last()+1, tick.Readings); n != next {
		t.Errorf("the next tick is %d, want %d", n, next)
	}
	s.Ack(report.Range{First: 1, Count: next - 1})
	if s.Readings() != 1 || len(waiting(t, s)) != 1 {
		t.Errorf("%d readings wait after all older ones are acknowledged", s.Readings())
	}
}

// TestAnEndBetweenTwoStores restores the memory of a process that died within Add.
func TestAnEndBetweenTwoStores(t *testing.T) {
	s, _ := mapped(t, 100)
	defer s.Unmap()
	want := waiting(t, s)
	before := bytes.Clone(s.mapped)
	var tick report.Tick
	tick.Add(report.SOCTemperature, 50_000)
	tick.AddInstance(report.NetworkReceive, "wlan7", 9) // a new series too
	s.Add(100*10_000, tick.Readings)
	after := bytes.Clone(s.mapped)

	f := func(name string, mem []byte, want []report.Report, next uint64) {
		t.Helper()
		got, err := restore(mem, "pi-1", 1e9)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		same(t, name, waiting(t, got), want)
		if got.Next() != next || got.Refused() != 0 {
			t.Errorf("%s: next %d, %d refused", name, got.Next(), got.Refused())
		}
	}
	copyWords := func(from, to []byte, words ...int) []byte {
		m := bytes.Clone(to)
		for _, w := range words {
			copy(m[w:w+8], from[w:w+8])
		}
		return m
	}
	const nextAt = 24
	copyAt, commitAt := int(unsafe.Offsetof(header{}.nextCopy)), -1
	for i := 1; i < len(before)/blockSize; i++ {
		if w := i*blockSize + 16; !bytes.Equal(before[w:w+8], after[w:w+8]) {
			commitAt = w
		}
	}
	f("before the commit", copyWords(before, after, nextAt, copyAt, commitAt), want, 101)
	all := waiting(t, s)
	f("behind the commit", copyWords(before, after, nextAt, copyAt), all, 102)
	f("before the next number's copy", copyWords(before, after, copyAt), all, 102)
	f("whole", after, all, 102)
}

func TestDamagedBlocksAreDroppedAndCounted(t *testing.T) {
	s, _ := mapped(t, 1000)
	defer s.Unmap()
	all := s.Readings()
	mem := bytes.Clone(s.mapped)
	lost := 0
	for k, at := range map[int]int{1: blockHead + 100, 3: 0, 5: 16} { // data, first, commit
		mem[(k+1)*blockSize+at] ^= 4
		b := s.live[k]
		for i := range b.ticks {
			if !b.isAcked(i) {
				lost += int(*b.count(i))
			}
		}
	}
	got, err := restore(mem, "pi-1", 1e9)
	if err != nil {
		t.Fatal(err)
	}
	waiting(t, got)
	if got.Refused() != 3 || got.Readings() != all-lost {
		t.Errorf("%d blocks refused, %d readings, want 3 and %d", got.Refused(), got.Readings(), all-lost)
	}
}

// ticksOf returns the encoded report of each tick that waits.
func ticksOf(t *testing.T, s *Spool) map[uint64]string {
	t.Helper()
	all := map[uint64]string{}
	for first := uint64(1); first < s.Next(); first++ {
		from, n := s.Run(first, first+1, 1)
		if n == 0 || from != first {
			continue
		}
		var r report.Report
		s.Fill(&r, from, n)
		all[first] = string(r.Append(nil))
	}
	return all
}

// TestEachByteOfASpool flips every byte of heads, and many of the ticks: every restored tick equals the original. A
// damaged block is refused and counted, and takes no other one with it; a spool with a damaged header is refused as a
// whole.
func TestEachByteOfASpool(t *testing.T) {
	mem := make([]byte, MinBytes)
	s := fresh(mem, "pi-1")
	some(s, 100)
	want := ticksOf(t, s) // that wait
	acked := bytes.Clone(mem)
	again, err := restore(acked, "pi-1", 1e9)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range again.live {
		for k := range b.acked {
			b.acked[k].Store(0)
		}
	}
	all := ticksOf(t, again) // with those that are acknowledged: where that is in doubt they are sent again
	dropped := int(unsafe.Offsetof(header{}.dropped))
	entries, guards, unused := int(unsafe.Offsetof(header{}.entries)), int(unsafe.Offsetof(header{}.sum)), int(unsafe.Offsetof(header{}.reserved))
	for at := range mem {
		switch within := at % blockSize; {
		case at >= dropped && at < dropped+8: // a count, of which nothing depends
			continue
		case at < blockSize && at >= unused, at >= blockSize && within >= blockHead && within%61 != 0, at >= entries && at < guards && within%7 != 0:
			continue
		}
		flip := []byte{1, 0xff}[at%2]
		flipped := bytes.Clone(mem)
		flipped[at] ^= flip
		got, err := restore(flipped, "pi-1", 1e9)
		if err != nil {
			continue
		}
		has := ticksOf(t, got)
		for n, tick := range has {
			if all[n] != tick {
				t.Fatalf("byte %d ^ %#x: tick %d is another one", at, flip, n)
			}
		}
		lost := 0
		for n := range want {
			if has[n] == "" {
				lost++
			}
		}
		if lost > 0 && got.Refused() != 1 || got.Next() != s.Next() && got.Next() != s.Next()+1 {
			t.Fatalf("byte %d ^ %#x: %d ticks are lost, %d blocks refused, next %d", at, flip, lost, got.Refused(), got.Next())
		}
	}
}

// TestASpoolWithoutGuards restores a spool of a process that wrote no guards, and guards it.
func TestASpoolWithoutGuards(t *testing.T) {
	mem := make([]byte, MinBytes)
	s := fresh(mem, "pi-1")
	some(s, 100)
	want := waiting(t, s)
	clear(mem[unsafe.Offsetof(header{}.sum):unsafe.Offsetof(header{}.reserved)])
	for i := blockSize; i < len(mem); i += blockSize {
		clear(mem[i+int(unsafe.Offsetof(block{}.place)):][:8])
	}
	for range 2 {
		got, err := restore(mem, "pi-1", 1e9)
		if err != nil || got.Refused() != 0 {
			t.Fatalf("%d refused, %v", got.Refused(), err)
		}
		same(t, "restored", waiting(t, got), want)
		if got.head.sum.Load() == 0 || got.live[0].place.Load() == 0 || got.live[0].acks.Load() == 0 {
			t.Error("there are no guards")
		}
	}
}

func TestASpoolOfAnotherBoardIsRefused(t *testing.T) {
	f := func(name string, change func(mem []byte)) {
		t.Helper()
		s, file := mapped(t, 10)
		change(s.mapped)
		if err := s.Unmap(); err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(file, megabyte, "pi-1", 1e9); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
	f("another layout", func(mem []byte) { mem[7]++ })
	f("empty", func(mem []byte) { clear(mem) })
	f("text", func(mem []byte) { copy(mem, bytes.Repeat([]byte("hello, world. "), 1000)) })
	f("another size", func(mem []byte) { mem[9]++ })
	f("no session", func(mem []byte) { clear(mem[16:20]) })
	f("too many series", func(mem []byte) { mem[20] = 65 })
	f("no next tick", func(mem []byte) { clear(mem[24:32]) })
	f("an anchor beyond all times", func(mem []byte) { mem[39] = 0x7f })
	f("another board", func(mem []byte) { mem[48]++ })
	f("a device that is no name", func(mem []byte) { copy(mem[112:], []byte{12, 0, 3, 0, 'a', ' ', 'b'}) })

	path := filepath.Join(t.TempDir(), "file")
	s, _ := mapped(t, 10)
	defer s.Unmap()
	if err := os.WriteFile(path, s.mapped, 0o600); err != nil {
		t.Fatal(err)
	}
	onDisk, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer onDisk.Close()
	if _, err := Restore(onDisk, megabyte, "pi-1", 1e9); err == nil {
		t.Error("a file that can be cut off under the mapping is not refused")
	}
}

func TestTicksOfTheFutureAreRefused(t *testing.T) {
	s, _ := mapped(t, 1000)
	defer s.Unmap()
	got, err := restore(bytes.Clone(s.mapped), "pi-1", 500*10_000)
	if err != nil || got.Refused() == 0 || got.Last() > 500*10_000 {
		t.Errorf("%v, %d refused, last at %d", err, got.Refused(), got.Last())
	}
}

// FuzzRestore changes bytes of a real spool, in every block where it says so with a checksum that is right again. A
// restored spool must be sendable and usable.
func FuzzRestore(f *testing.F) {
	base := make([]byte, 4*MinBytes)
	some(fresh(base, "pi-1"), 700)
	f.Add([]byte{}, true)
	f.Add([]byte{0, 0, 7, 2}, false)       // version
	f.Add([]byte{0, 0, 20, 0xff}, true)    // series
	f.Add([]byte{0, 0, 112, 0xff}, true)   // a metric
	f.Add([]byte{0, 0x10, 8, 1}, true)     // an anchor
	f.Add([]byte{0, 0x10, 16, 0xff}, true) // used
	f.Add([]byte{0, 0x10, 18, 0xff}, true) // ticks
	f.Add([]byte{0, 0x10, 64, 0xff}, true) // first time
	f.Add([]byte{0, 0x20, 0, 1}, true)     // first tick
	f.Add([]byte{0, 0x10, 70, 0, 0, 0x10, 71, 1}, true)
	f.Fuzz(func(t *testing.T, changes []byte, sums bool) {
		mem := bytes.Clone(base)
		for ; len(changes) >= 4; changes = changes[4:] {
			at := int(changes[0])<<16 | int(changes[1])<<8 | int(changes[2])
			mem[at%len(mem)] = changes[3]
		}
		for i := blockSize; sums && i < len(mem); i += blockSize {
			used := int(binary.NativeEndian.Uint16(mem[i+16:]))
			sum := crc32.Update(sumOf(binary.NativeEndian.Uint64(mem[i:])), crc32.IEEETable, mem[i+blockHead:i+blockHead+min(used, blockData)])
			binary.NativeEndian.PutUint32(mem[i+20:], sum)
		}
		if sums {
			guarded, blocks := over(mem)
			guarded.series = make([]report.Series, min(guarded.head.series.Load(), report.MaxColumns))
			for _, b := range blocks {
				guarded.live = append(guarded.live, segment{block: b})
			}
			guarded.guard()
		}
		s, err := restore(mem, "pi-1", 1e9)
		if err != nil {
			return
		}
		readings := 0
		for _, r := range waiting(t, s) {
			readings += r.Readings()
		}
		if readings > s.Readings() {
			t.Errorf("%d readings are sent, %d wait", readings, s.Readings())
		}
		some2 := report.Tick{}
		some2.Add(report.Load1, 1)
		s.SetAnchor(0)
		for i := range int64(2000) {
			s.Add(s.Last()+1+i, some2.Readings)
		}
		waiting(t, s)
		s.Ack(report.Range{First: 0, Count: 1 << 63})
		if !s.Empty() || s.Readings() != 0 {
			t.Errorf("%d readings wait after all were acknowledged", s.Readings())
		}
	})
}
