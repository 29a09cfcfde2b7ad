package sensor

import (
	"testing"
	"time"
)

func TestFirstAnchor(t *testing.T) {
	const uptime = 1_000_000
	f := func(name string, trip, wallOff, want int64) {
		t.Helper()
		var e eras
		trueTime := int64(1_700_000_000_000)
		for range patience {
			e.answered(trueTime-trip/2, trip, uptime, trueTime+wallOff)
		}
		if got, _ := e.anchor(); got != want {
			t.Errorf("%s: anchor %d, want %d", name, got, want)
		}
	}
	anchor := int64(1_700_000_000_000 - uptime)
	f("agrees", 10, 0, anchor)
	f("agrees within the tolerance", 10, 249, anchor+249)
	f("system clock in 1970", 10, -1_700_000_000_000, anchor)
	f("system clock fast", 10, 300, anchor)
	f("slow link, system clock a day ahead", 4000, 24*time.Hour.Milliseconds(), anchor)
}

func TestASlowAnswerDoesNotSettleTheFirstAnchorAlone(t *testing.T) {
	var e eras
	if e.answered(1_700_000_000_000, 8000, 5000, 1_700_000_000_000) {
		t.Error("one answer after 8 s settled the anchor")
	}
	if !e.answered(1_700_000_000_000, 20, 5000, 1_700_000_000_000) {
		t.Error("a quick answer did not")
	}
}

func TestDriftIsCorrectedInSteps(t *testing.T) {
	var e eras // 50 ppm slow against the collector, no help from the system clock
	const day = 24 * 3600 * 1000
	e.answered(0, 2, 0, 9e9)
	for now := int64(0); now < 7*day; now += 60_000 {
		collector := now + now*50/1_000_000
		e.heard(collector, now)
		for range 2 {
			if e.doubt {
				e.answered(collector, 2, now, now+9e9)
			}
		}
		a, _ := e.anchor()
		if off := distance(a+now, collector); off > tolerance.Milliseconds()+2 { // an answer over 2 ms leaves 2 ms open
			t.Fatalf("after %d ms the clock is off by %d ms", now, off)
		}
	}
	if n := e.opened; n < 100 || n > 130 {
		t.Errorf("%d eras for 30 s of drift", n)
	}
}
