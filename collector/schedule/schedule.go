// Package schedule owns times of the day and the week in a named zone, such as "Mon 10:00" in Europe/Berlin. It refuses to
// run anything.
package schedule

import (
	"fmt"
	"strings"
	"time"
)

// Schedule is a time of every day, or of one day of the week. The zero value is none.
type Schedule struct {
	hour, minute int
	day          time.Weekday
	weekly, set  bool
	zone         *time.Location
}

var days = map[string]time.Weekday{
	"sun": time.Sunday, "mon": time.Monday, "tue": time.Tuesday, "wed": time.Wednesday, "thu": time.Thursday, "fri": time.Friday, "sat": time.Saturday,
}

// Parse reads "10:00" (every day) or "Mon 10:00", in a zone of the IANA database; "" is UTC.
func Parse(at, zone string) (Schedule, error) {
	s := Schedule{set: true}
	clock := at
	if day, rest, ok := strings.Cut(at, " "); ok {
		d, known := days[strings.ToLower(day)]
		if !known {
			return Schedule{}, fmt.Errorf("%q: want a time such as 10:00, or Mon 10:00", at)
		}
		s.day, s.weekly, clock = d, true, rest
	}
	t, err := time.Parse("15:04", clock)
	if err != nil {
		return Schedule{}, fmt.Errorf("%q: want a time such as 10:00, or Mon 10:00", at)
	}
	s.hour, s.minute = t.Hour(), t.Minute()
	if s.zone, err = time.LoadLocation(zone); err != nil || zone == "Local" {
		return Schedule{}, fmt.Errorf("zone %q: want a name such as Europe/Berlin, or UTC", zone)
	}
	return s, nil
}

// Set reports whether there is one.
func (s Schedule) Set() bool { return s.set }

// Last returns the latest time of the schedule that is not after now. Where the clocks skip it, it is as much later as
// they skip; where they repeat it, it is one of the two.
func (s Schedule) Last(now time.Time) time.Time {
	local := now.In(s.zone)
	for back := 0; ; back++ {
		at := time.Date(local.Year(), local.Month(), local.Day()-back, s.hour, s.minute, 0, 0, s.zone)
		if !at.After(now) && (!s.weekly || at.Weekday() == s.day) {
			return at
		}
	}
}

// Next returns the first time of the schedule after now.
func (s Schedule) Next(now time.Time) time.Time {
	local := now.In(s.zone)
	for ahead := 0; ; ahead++ {
		at := time.Date(local.Year(), local.Month(), local.Day()+ahead, s.hour, s.minute, 0, 0, s.zone)
		if at.After(now) && (!s.weekly || at.Weekday() == s.day) {
			return at
		}
	}
}

// String writes it as Parse reads it, and the zone.
func (s Schedule) String() string {
	text := fmt.Sprintf("%02d:%02d %s", s.hour, s.minute, s.zone)
	if s.weekly {
		return s.day.String()[:3] + " " + text
	}
	return text
}
