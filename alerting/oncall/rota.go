package oncall

import (
	"encoding/json"
	"slices"
	"time"
)

// Rota is a schedule of people on call. The first layer that has somebody at a time decides, unless an override does.
type Rota struct {
	Name      string
	Zone      *time.Location
	Layers    []Layer
	Overrides []Override // the last one wins
}

// Layer is one turn of people, all the time or on some hours and days only.
type Layer struct {
	Name   string
	People []string
	// First is the day on which the first person's first turn begins, at Handover.
	First Day
	// Handover is the local time at which one person follows the other.
	Handover Clock
	// Days is the length of a turn in calendar days.
	Days int
	// From and To bound the hours of each day; both zero are all of it. To may be earlier than From: until the next day.
	From, To Clock
	// On are the days on which those hours begin; none means all.
	On []time.Weekday
}

// Override puts a person on call for a while. Rota names the rota where it is not the one that holds it.
type Override struct {
	ID     int64     `json:"id,omitempty"` // 0 for one of the file
	Rota   string    `json:"rota"`
	Person string    `json:"person"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	By     string    `json:"by,omitempty"`
}

// MarshalJSON writes the times in Unix milliseconds.
func (o Override) MarshalJSON() ([]byte, error) {
	type plain Override
	return json.Marshal(struct {
		plain
		From int64 `json:"from"`
		To   int64 `json:"to"`
	}{plain(o), o.From.UnixMilli(), o.To.UnixMilli()})
}

// UnmarshalJSON reads the form of MarshalJSON.
func (o *Override) UnmarshalJSON(text []byte) error {
	type plain Override
	v := struct {
		*plain
		From int64 `json:"from"`
		To   int64 `json:"to"`
	}{plain: (*plain)(o)}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	o.From, o.To = time.UnixMilli(v.From), time.UnixMilli(v.To)
	return nil
}

// Day is a day of the calendar, as days since 1970-01-01.
type Day int

// Clock is a local time in minutes since midnight.
type Clock int

// Shift is a time for which one person is on call, or nobody.
type Shift struct {
	From, To time.Time
	Person   string
	// Layer is the layer's name; Override says that an override decided.
	Layer    string
	Override bool
}

// On is the person on call. Person is empty for nobody.
type On struct {
	Person, Layer string
	Override      bool
}

func dayOf(t time.Time) Day {
	return Day(time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC).Unix() / 86400)
}

func (d Day) weekday() time.Weekday { return time.Unix(int64(d)*86400, 0).UTC().Weekday() }

// at is when a clock in a zone shows a time on a day. A time that comes twice is the first of the two; one that is
// skipped is as much later as the clock is set forward.
func (d Day) at(c Clock, zone *time.Location) time.Time {
	naive := time.Unix(int64(d)*86400+int64(c)*60, 0).UTC()
	before := naive.Add(-offset(naive.Add(-24*time.Hour), zone)).In(zone)
	if after := naive.Add(-offset(naive.Add(24*time.Hour), zone)).In(zone); !shows(before, c) && shows(after, c) {
		return after
	}
	return before
}

func offset(t time.Time, zone *time.Location) time.Duration {
	_, s := t.In(zone).Zone()
	return time.Duration(s) * time.Second
}

func shows(t time.Time, c Clock) bool { return Clock(t.Hour()*60+t.Minute()) == c }

// turn is the number of a layer's turn at a time, and when it began and will end. Turns before the first are negative.
func (l *Layer) turn(t time.Time, zone *time.Location) (n int, from, to time.Time) {
	day := dayOf(t.In(zone))
	if t.Before(day.at(l.Handover, zone)) {
		day--
	}
	n = int(day-l.First) / l.Days
	if int(day-l.First)%l.Days < 0 {
		n--
	}
	first := l.First + Day(n*l.Days)
	return n, first.at(l.Handover, zone), (first + Day(l.Days)).at(l.Handover, zone)
}

// covers reports whether a time lies in the layer's hours.
func (l *Layer) covers(t time.Time, zone *time.Location) bool {
	day := dayOf(t.In(zone))
	for _, d := range []Day{day - 1, day} {
		if len(l.On) > 0 && !slices.Contains(l.On, d.weekday()) {
			continue
		}
		if from, to := l.hours(d, zone); !t.Before(from) && t.Before(to) {
			return true
		}
	}
	return false
}

// hours are when a layer's hours of a day begin and end.
func (l *Layer) hours(d Day, zone *time.Location) (from, to time.Time) {
	end := d
	if l.To <= l.From {
		end++
	}
	return d.at(l.From, zone), end.at(l.To, zone)
}

// person is the one who has the layer at a time, empty for nobody.
func (l *Layer) person(t time.Time, zone *time.Location) string {
	n, _, _ := l.turn(t, zone)
	if n < 0 || !l.covers(t, zone) {
		return ""
	}
	return l.People[n%len(l.People)]
}

// At returns the person on call at a time.
func (r *Rota) At(t time.Time) On {
	for _, o := range slices.Backward(r.Overrides) {
		if !t.Before(o.From) && t.Before(o.To) {
			return On{Person: o.Person, Override: true}
		}
	}
	for i := range r.Layers {
		if p := r.Layers[i].person(t, r.Zone); p != "" {
			return On{Person: p, Layer: r.Layers[i].Name}
		}
	}
	return On{}
}

// Shifts are the people on call between two times, in the rota's zone and without a hole: a gap is a shift of nobody.
func (r *Rota) Shifts(from, to time.Time) (out []Shift) {
	from, to = from.In(r.Zone), to.In(r.Zone)
	for at := from; at.Before(to); {
		on, end := r.At(at), r.next(at)
		if end.After(to) {
			end = to
		}
		if n := len(out); n > 0 && out[n-1].Person == on.Person && out[n-1].Layer == on.Layer && out[n-1].Override == on.Override {
			out[n-1].To = end
		} else {
			out = append(out, Shift{at, end, on.Person, on.Layer, on.Override})
		}
		at = end
	}
	return out
}

// Gaps are the times between two times at which nobody is on call.
func (r *Rota) Gaps(from, to time.Time) []Shift {
	return slices.DeleteFunc(r.Shifts(from, to), func(s Shift) bool { return s.Person != "" })
}

// next is the earliest time after t at which somebody else may be on call.
func (r *Rota) next(t time.Time) time.Time {
	next := t.Add(48 * time.Hour)
	earlier := func(at time.Time) {
		if at.After(t) && at.Before(next) {
			next = at
		}
	}
	for _, o := range r.Overrides {
		earlier(o.From.In(r.Zone))
		earlier(o.To.In(r.Zone))
	}
	day := dayOf(t.In(r.Zone))
	for i := range r.Layers {
		l := &r.Layers[i]
		_, _, end := l.turn(t, r.Zone)
		earlier(end)
		for d := day - 1; d <= day+1; d++ {
			begin, over := l.hours(d, r.Zone)
			earlier(begin)
			earlier(over)
		}
	}
	return next
}
