package main

import (
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

// TestProcessGoesOnAfterItHasShedMemory runs what was dropped again.
func TestProcessGoesOnAfterItHasShedMemory(t *testing.T) {
	before := map[string]int{"a": 1}
	shed()
	if before["a"] != 1 {
		t.Error("the heap has changed")
	}
	TestOnlyPartsOfTheProgramAreDropped(t)
}
