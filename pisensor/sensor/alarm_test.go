package sensor

import (
	"testing"
	"time"
)

func TestAlarmWaitsForTheTimeAndForABell(t *testing.T) {
	for name, a := range map[string]alarm{"boot-relative": newAlarm(), "runtime": newGoAlarm()} {
		t.Run(name, func(t *testing.T) {
			took := func(d time.Duration) time.Duration {
				began := time.Now()
				a.wait(d)
				return time.Since(began)
			}
			if d := took(20 * time.Millisecond); d < 20*time.Millisecond {
				t.Errorf("a wait of 20 ms ends after %v", d)
			}
			took(-time.Second) // it ends, although that has passed
			a.signal()
			a.signal()
			took(never) // it ends at the signal
			if d := took(20 * time.Millisecond); d < 20*time.Millisecond {
				t.Errorf("a wait of 20 ms behind two signals ends after %v", d)
			}
			woken := make(chan struct{})
			go func() { defer close(woken); a.wait(never) }()
			a.signal() // whether it waits already or not
			select {
			case <-woken:
			case <-time.After(10 * time.Second):
				t.Fatal("a signal does not end a wait")
			}
			a.close()
		})
	}
}
