package backoff

import (
	"testing"
	"time"
)

func TestWait(t *testing.T) {
	f := func(failed int, want time.Duration) {
		t.Helper()
		shortest, longest := time.Hour, time.Duration(0)
		for range 1000 {
			d := Wait(time.Second, time.Minute, failed)
			shortest, longest = min(shortest, d), max(longest, d)
		}
		if shortest < want*3/4 || longest > want*5/4 {
			t.Errorf("after %d tries %s to %s, want %s and a quarter both ways", failed, shortest, longest, want)
		}
		if longest-shortest < want/4 {
			t.Errorf("after %d tries %s to %s: they would come in step", failed, shortest, longest)
		}
	}
	f(-1, time.Second)
	f(0, time.Second)
	f(1, 2*time.Second)
	f(5, 32*time.Second)
	f(6, time.Minute)
	f(1_000_000, time.Minute)
	if d := Wait(0, 0, 3); d != 0 {
		t.Errorf("without a wait: %s", d)
	}
}
