package sensor

import (
	"testing"
	"time"
)

func TestAlarmRingsOnceAtTheTimeThatWasSetLast(t *testing.T) {
	for name, a := range map[string]alarm{"boot-relative": newAlarm(), "runtime": newGoAlarm()} {
		a.set(never)
		a.set(time.Hour)
		began := time.Now()
		a.set(20 * time.Millisecond)
		select {
		case <-a.rings():
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: does not ring", name)
		}
		if took := time.Since(began); took < 20*time.Millisecond {
			t.Errorf("%s: rings after %v", name, took)
		}
		a.set(-time.Second)
		select {
		case <-a.rings():
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: does not ring for a time that has passed", name)
		}
		a.close()
	}
}
