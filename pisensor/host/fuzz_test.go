package host

import (
	"testing"

	"bramble/pisensor/report"
)

func FuzzBusy(f *testing.F) {
	f.Add([]byte("cpu  4705 0 1120 1234567 890 0 33 0 0 0\ncpu0 1 2 3\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := parseBusy(b); err == nil && v < 0 || err != nil && v != 0 {
			t.Errorf("%q: %d, %v", b, v, err)
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("0.53 0.40 0.31 1/123 4567\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { parseLoad(b) })
}

func FuzzMemory(f *testing.F) {
	f.Add([]byte("MemTotal:  948304 kB\nMemFree: 1 kB\nMemAvailable: 612345 kB\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { parseMemory(b) })
}

func FuzzNetwork(f *testing.F) {
	f.Add([]byte(devHeader + "  eth0:938533562   42013    2    0    0     0          0         0  2679526   25865    3    0    0     0       0          0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c counters
		if c.parse(b) != nil {
			return
		}
		if len(c.found) > maxLines {
			t.Errorf("%d devices", len(c.found))
		}
		for _, n := range c.found {
			if len(n.name) == 0 || c.of(string(n.name)) == nil {
				t.Errorf("%q: a device without a name", b)
			}
		}
	})
}

// FuzzMountstats also checks that the same text twice in a row gives no latency of an interval.
func FuzzMountstats(f *testing.F) {
	f.Add([]byte(v3Root))
	f.Add([]byte(v4Home + others))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m, again mount
		found, err := m.parse(b)
		if found2, err2 := again.parse(b); found2 != found || (err == nil) != (err2 == nil) || m != again {
			t.Errorf("%q: %+v, then %+v", b, m, again)
		}
		if !found || err != nil {
			return
		}
		n := nfs{last: m, primed: true, now: m}
		var tick report.Tick
		if err := n.add(&tick); err == nil && len(tick.Readings) != 1 || m.retransmissions < 0 {
			t.Errorf("%q: %v, %v", b, tick.Readings, err)
		}
	})
}

func FuzzOSRelease(f *testing.F) {
	f.Add([]byte("NAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Raspbian GNU/Linux 12 (bookworm)\"\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { prettyName(b) })
}
