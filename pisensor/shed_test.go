package main

import (
	"slices"
	"testing"
)

func TestOnlyPartsOfTheProgramAreDropped(t *testing.T) {
	f := func(line string, from, size uintptr, ok bool) {
		t.Helper()
		gotFrom, gotSize, gotOK := programPart([]byte(line))
		if gotOK != ok || ok && (gotFrom != from || gotSize != size) {
			t.Errorf("%q: %x, %x, %v", line, gotFrom, gotSize, gotOK)
		}
	}
	f("00010000-00360000 r-xp 00000000 b3:02 1234                               /usr/bin/pisensor\n", 0x10000, 0x350000, true)
	f("00360000-00630000 r--p 00350000 b3:02 1234                               /usr/bin/pisensor (deleted)\n", 0x360000, 0x2d0000, true)
	f("00630000-00680000 rw-p 00620000 b3:02 1234                               /usr/bin/pisensor\n", 0, 0, false)
	f("00680000-00800000 r--p 00000000 00:00 0 \n", 0, 0, false)
	f("b6f00000-b7000000 rw-s 00000000 00:01 77                                 /memfd:pisensor-spool (deleted)\n", 0, 0, false)
	f("7ffd0000-7ffd2000 r-xp 00000000 00:00 0                                  [vdso]\n", 0, 0, false)
	f("nonsense", 0, 0, false)
	f("2000-1000 r-xp 00000000 b3:02 1234 /usr/bin/pisensor", 0, 0, false)
	f("zz-1000 r-xp 00000000 b3:02 1234 /usr/bin/pisensor", 0, 0, false)
}

func TestPagesWrittenByALinkerAreKept(t *testing.T) {
	const smaps = `00400000-0070e000 r-xp 00000000 fe:00 10022034                           /usr/bin/pisensor
Size:               3128 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
0070e000-00a44000 r--p 0030e000 fe:00 10022034                           /usr/bin/pisensor
Anonymous:            16 kB
00a44000-00a50000 rw-p 00644000 fe:00 10022034                           /usr/bin/pisensor
Anonymous:             0 kB
7f000000-7f001000 r--p 00000000 fe:00 77                                 /usr/lib/libc.so.6
Anonymous:             0 kB
`
	want := []part{{0x400000, 0x30e000}, {0x7f000000, 0x1000}}
	if got := untouched([]byte(smaps)); !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	if got := untouched([]byte("Anonymous: 0 kB\nnonsense")); got != nil {
		t.Errorf("%x of nonsense", got)
	}
}

// TestProcessGoesOnAfterItHasShedMemory runs dropped pages of the program again.
func TestProcessGoesOnAfterItHasShedMemory(t *testing.T) {
	before := map[string]int{"a": 1}
	shed()
	if before["a"] != 1 {
		t.Error("the heap has changed")
	}
	TestOnlyPartsOfTheProgramAreDropped(t)
}
