package source

import (
	"fmt"
	"testing"
)

func TestDecimalAndHex(t *testing.T) {
	f := func(in string, places int, want int64, ok bool) {
		t.Helper()
		got, err := Decimal([]byte(in), places)
		if (err == nil) != ok || ok && got != want {
			t.Errorf("%q with %d decimals: %d, %v", in, places, got, err)
		}
	}
	f("46698\n", 0, 46698, true)
	f(" -12 ", 0, -12, true)
	f("0.53", 2, 53, true)
	f("12.5", 2, 1250, true)
	f("12.567", 2, 1256, true)
	f("7", 2, 700, true)
	f("-0.5", 1, -5, true)
	f("", 0, 0, false)
	f("-", 0, 0, false)
	f(".5", 2, 0, false)
	f("1e9", 0, 0, false)
	f("0x10", 0, 0, false)
	f("12 13", 0, 0, false)
	f("1.2.3", 2, 0, false)
	f("9999999999999999999999", 0, 0, false)
	h := func(in string, want uint32, ok bool) {
		t.Helper()
		got, err := Hex([]byte(in))
		if (err == nil) != ok || ok && got != want {
			t.Errorf("%q: %x, %v", in, got, err)
		}
	}
	h("50005\n", 0x50005, true)
	h("0x0", 0, true)
	h("FFFFFFFF", 0xffffffff, true)
	h("", 0, false)
	h("0x", 0, false)
	h("1ffffffff", 0, false)
	h("12g", 0, false)
}

func FuzzDecimal(f *testing.F) {
	f.Add("46698\n", 0)
	f.Add("-0.53", 2)
	f.Fuzz(func(t *testing.T, s string, places int) {
		places = max(0, min(places, 4))
		v, err := Decimal([]byte(s), places)
		if err != nil {
			return
		}
		again, err := Decimal(fmt.Append(nil, v), 0)
		if err != nil || again != v {
			t.Errorf("%q: %d came back as %d, %v", s, v, again, err)
		}
	})
}

func FuzzHex(f *testing.F) {
	f.Add("50005\n")
	f.Add("0xDEADbeef")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := Hex([]byte(s))
		if err != nil {
			return
		}
		if again, err := Hex(fmt.Appendf(nil, "%x", v)); err != nil || again != v {
			t.Errorf("%q: %x came back as %x, %v", s, v, again, err)
		}
	})
}

func TestField(t *testing.T) {
	f := func(in, word, rest string) {
		t.Helper()
		if w, r := Field([]byte(in)); string(w) != word || string(r) != rest {
			t.Errorf("%q: %q, %q", in, w, r)
		}
	}
	f("cpu  1 2", "cpu", "  1 2")
	f(" \t12", "12", "")
	f("  ", "", "")
	f("", "", "")
}

// TestErrorsNameTheText keeps a log of nonsense readable, and short.
func TestErrorsNameTheText(t *testing.T) {
	_, err := Integer([]byte("hot\n"))
	if err == nil || err.Error() != `"hot\n" is not a number` {
		t.Error(err)
	}
	if _, err = Integer(make([]byte, 1<<20)); err == nil || len(err.Error()) > 200 {
		t.Errorf("%d bytes of error", len(err.Error()))
	}
}
