package schedule

import (
	"testing"
	"time"
)

func TestSchedule(t *testing.T) {
	f := func(at, zone, now, last, next string) {
		t.Helper()
		s, err := Parse(at, zone)
		if err != nil {
			t.Fatal(err)
		}
		n, err := time.Parse(time.RFC3339, now)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Last(n).UTC().Format(time.RFC3339); got != last {
			t.Errorf("%s: the last before %s is %s, want %s", s, now, got, last)
		}
		if got := s.Next(n).UTC().Format(time.RFC3339); got != next {
			t.Errorf("%s: the next after %s is %s, want %s", s, now, got, next)
		}
	}
	f("10:00", "", "2026-11-24T10:00:00Z", "2026-11-24T10:00:00Z", "2026-11-25T10:00:00Z")
	f("Mon 10:00", "Europe/Berlin", "2026-11-24T10:00:00Z", "2026-11-23T09:00:00Z", "2026-11-30T09:00:00Z")
	f("mon 10:00", "Europe/Berlin", "2026-10-20T10:00:00Z", "2026-10-19T08:00:00Z", "2026-10-26T09:00:00Z") // the clocks go back on the 25th
	f("02:30", "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z")     // 02:30 is skipped
	f("02:30", "Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z")     // 02:30 comes twice
	f("00:15", "Asia/Kathmandu", "2026-11-24T18:29:59Z", "2026-11-23T18:30:00Z", "2026-11-24T18:30:00Z")
	for _, bad := range [][2]string{{"", ""}, {"25:00", ""}, {"Someday 10:00", ""}, {"10", ""}, {"10:00", "Mars/Olympus"}, {"10:00", "Local"}, {"Mon Tue 10:00", ""}} {
		if s, err := Parse(bad[0], bad[1]); err == nil {
			t.Errorf("%q in %q is taken as %s", bad[0], bad[1], s)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("Mon 10:00", "Europe/Berlin", int64(1795000000))
	f.Add("02:30", "", int64(0))
	f.Fuzz(func(t *testing.T, at, zone string, now int64) {
		s, err := Parse(at, zone)
		if err != nil || now < 0 || now > 1<<33 {
			return
		}
		n := time.Unix(now, 0)
		if s.Last(n).After(n) || !s.Next(n).After(n) {
			t.Errorf("%s at %s: %s, %s", s, n, s.Last(n), s.Next(n))
		}
	})
}
