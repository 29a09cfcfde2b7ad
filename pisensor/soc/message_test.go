package soc

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"periph.io/x/conn/v3/physic"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// TestRequest compares the request with one written by hand after the
// firmware's documentation.
func TestRequest(t *testing.T) {
	var m message
	m.ask()
	want := message{
		68, 0, // bytes, request
		0x00030047, 8, 0, 3, 0, // measured clock of the ARM
		0x00030046, 4, 0, 0, // throttled: 0 clears nothing
		0x00030003, 8, 0, 1, 0, // voltage of the core
		0,
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	call := map[uintptr]uintptr{4: 0xC0046400, 8: 0xC0086400}[unsafe.Sizeof(uintptr(0))]
	if property != call {
		t.Errorf("ioctl request 0x%x, want 0x%x", uintptr(property), call)
	}
}

func TestAnswers(t *testing.T) {
	const ok, done = 0x80000000, 0x80000000
	f := func(name string, words []uint32, want answer, wantErr bool) {
		t.Helper()
		got, err := parse(words)
		if (err != nil) != wantErr {
			t.Errorf("%s: error %v", name, err)
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	full := []uint32{
		68, ok, 0x00030047, 8, done | 8, 3, 657_412_096, 0x00030046, 4, done | 4, 0x60006,
		0x00030003, 8, done | 8, 1, 1_318_750, 0,
	}
	want := answer{
		clock: 657_412_096 * physic.Hertz, hasClock: true, throttled: 0x60006, hasThrottled: true,
		voltage: 1_318_750 * physic.MicroVolt, hasVoltage: true,
	}
	f("all", full, want, false)
	unknown := append([]uint32(nil), full...)
	unknown[4] = 0 // an old firmware does not know the measured clock
	f("unknown tag", unknown, answer{throttled: 0x60006, hasThrottled: true, voltage: want.voltage, hasVoltage: true}, false)
	short := append([]uint32(nil), full...)
	short[4] = done | 4
	f("short answer", short, answer{throttled: 0x60006, hasThrottled: true, voltage: want.voltage, hasVoltage: true}, false)
	f("other clock's answer", []uint32{28, ok, 0x00030047, 8, done | 8, 4, 5, 0}, answer{}, false)
	f("no voltage there", []uint32{28, ok, 0x00030003, 8, done | 8, 1, 0x80000000, 0}, answer{}, false)
	f("firmware refused", []uint32{68, 0x80000001, 0x00030047, 8, done | 8, 3, 5, 0}, answer{}, true)
	f("never answered", []uint32{68, 0, 0x00030047, 8, 0, 3, 0, 0}, answer{}, true)
	f("length beyond the end", []uint32{68, ok, 0x00030047, 0xfffffffc, done | 8, 3, 5, 0}, answer{}, true)
	f("length not of words", []uint32{68, ok, 0x00030047, 7, done | 8, 3, 5, 0}, answer{}, true)
	f("no end", []uint32{68, ok, 0x00030046, 4, done | 4, 1}, answer{throttled: 1, hasThrottled: true}, true)
	f("empty", nil, answer{}, true)
}

func TestAnAnswerCostsNoAllocation(t *testing.T) {
	m := newMailbox(source.Roots{})
	words := []uint32{
		68, codeSuccess, tagMeasuredClock, 8, codeAnswered | 8, clockARM, 657_412_096, tagThrottled, 4, codeAnswered | 4, 0x60006,
		tagVoltage, 8, codeAnswered | 8, voltageCore, 1_318_750, tagEnd,
	}
	tick := report.Tick{Readings: make([]report.Reading, 0, 8)}
	n := testing.AllocsPerRun(50, func() {
		tick.Reset()
		m.message.ask()
		copy(m.message[:], words)
		a, err := parse(m.message[:])
		if err != nil || a.add(&tick) != nil || len(tick.Readings) != 3 {
			t.Fatal(tick.Readings, err)
		}
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte("\x44\x00\x00\x00\x00\x00\x00\x80\x46\x00\x03\x00\x04\x00\x00\x00\x04\x00\x00\x80\x01\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var words []uint32
		for ; len(b) >= 4; b = b[4:] {
			words = append(words, binary.LittleEndian.Uint32(b))
		}
		a, err := parse(words)
		if a.hasClock && a.clock <= 0 || a.hasVoltage && a.voltage <= 0 || err == nil && len(words) < 3 {
			t.Errorf("%v: %+v, %v", words, a, err)
		}
	})
}
