package segment

import (
	"bytes"
	"testing"
)

func TestMarksAreFoundAnywhere(t *testing.T) {
	h, s := NewHeader("testfile")
	if got, err := ParseHeader(h); err != nil || got != s {
		t.Fatalf("salt %x, want %x: %v", got, s, err)
	}
	_, other := NewHeader("testfile")
	file := bytes.Repeat(tag, 1<<15) // 128 KiB that look like the beginning of marks
	for _, at := range []int64{0, 1, 100, 1<<16 - MarkSize, 1<<16 - 3, 1 << 16, int64(len(file)) - MarkSize} {
		with := bytes.Clone(file)
		copy(with[at:], s.AppendMark(nil, at))
		f := func(salt Salt, from, to int64, want bool) {
			t.Helper()
			if got, err := salt.MarkWithin(bytes.NewReader(with), from, to); got != want || err != nil {
				t.Errorf("a mark at %d, looked for from %d to %d: %v, %v", at, from, to, got, err)
			}
		}
		f(s, 0, int64(len(file)), true)
		f(s, at, at+MarkSize, true)
		f(s, at+1, int64(len(file)), false)
		f(s, 0, at+MarkSize-1, false)
		f(other, 0, int64(len(file)), false)
		moved := append([]byte{0}, with...)
		if got, err := s.MarkWithin(bytes.NewReader(moved), 0, int64(len(moved))); got || err != nil {
			t.Errorf("a mark of another place counts: %v", err)
		}
	}
}

func TestEachByteOfAHeader(t *testing.T) {
	h, _ := NewHeader("testfile")
	for i := range h {
		flipped := bytes.Clone(h)
		flipped[i] ^= 1
		if _, err := ParseHeader(flipped); err == nil {
			t.Errorf("byte %d: no error", i)
		}
	}
}
