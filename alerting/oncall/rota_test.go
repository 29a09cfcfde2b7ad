package oncall

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func parse(t testing.TB, text string) *Config {
	t.Helper()
	c, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const people = `
people:
  - {name: ada, channels: [{receiver: a}]}
  - {name: jonas, channels: [{receiver: j}]}
  - {name: mira, channels: [{receiver: m}]}
`

func berlin(t testing.TB, text string) time.Time {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.ParseInLocation("2006-01-02 15:04", text, zone)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// said writes shifts as lines "from, length, person".
func said(shifts []Shift) string {
	var b strings.Builder
	for _, s := range shifts {
		who := s.Person
		if s.Override {
			who += " (override)"
		}
		fmt.Fprintf(&b, "%s %s %s\n", s.From.Format("01-02 15:04 MST"), s.To.Sub(s.From), who)
	}
	return b.String()
}

// TestHandover: the clock's change makes one shift of 23 h and one of 25 h, and hand-over stays at nine.
func TestHandover(t *testing.T) {
	c := parse(t, people+`
rotas:
  - name: first
    zone: Europe/Berlin
    layers: [{people: [ada, jonas], start: 2026-01-01, handover: "09:00", rotate: daily}]
`)
	r := c.Rota("first")
	f := func(from, to, want string) {
		t.Helper()
		if got := said(r.Shifts(berlin(t, from), berlin(t, to))); got != strings.TrimPrefix(want, "\n") {
			t.Errorf("from %s:\n%swant%s", from, got, want)
		}
	}
	f("2026-03-27 09:00", "2026-03-31 09:00", `
03-27 09:00 CET 24h0m0s jonas
03-28 09:00 CET 23h0m0s ada
03-29 09:00 CEST 24h0m0s jonas
03-30 09:00 CEST 24h0m0s ada
`)
	f("2026-10-23 09:00", "2026-10-27 09:00", `
10-23 09:00 CEST 24h0m0s jonas
10-24 09:00 CEST 25h0m0s ada
10-25 09:00 CET 24h0m0s jonas
10-26 09:00 CET 24h0m0s ada
`)
	if on := r.At(berlin(t, "2025-12-31 12:00")); on.Person != "" {
		t.Errorf("before the start %q is on call", on.Person)
	}
}

// TestSkippedAndDoubledHour: a hand-over at a time that does not exist, or exists twice, happens once.
func TestSkippedAndDoubledHour(t *testing.T) {
	c := parse(t, people+`
rotas:
  - name: first
    zone: Europe/Berlin
    layers: [{people: [ada, jonas], start: 2026-01-01, handover: "02:30", rotate: daily}]
`)
	got := said(c.Rota("first").Shifts(berlin(t, "2026-03-28 02:30"), berlin(t, "2026-03-30 02:30")))
	if want := "03-28 02:30 CET 24h0m0s ada\n03-29 03:30 CEST 23h0m0s jonas\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	got = said(c.Rota("first").Shifts(berlin(t, "2026-10-24 02:30"), berlin(t, "2026-10-26 02:30")))
	if want := "10-24 02:30 CEST 24h0m0s ada\n10-25 02:30 CEST 25h0m0s jonas\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestLayers: a night layer before a day layer, weekdays, overrides, and the gaps that remain.
func TestLayers(t *testing.T) {
	c := parse(t, "zone: Europe/Berlin\n"+people+`
rotas:
  - name: first
    layers:
      - {name: night, people: [ada, jonas], start: 2026-01-05, handover: "12:00", rotate: weekly, hours: "20:00-08:00"}
      - {name: day, people: [mira], start: 2026-01-01, handover: "08:00", rotate: weekly, hours: "08:00-20:00", days: [mon-fri]}
    overrides:
      - {person: jonas, from: 2026-03-31 10:00, to: 2026-03-31 11:00}
`)
	r := c.Rota("first")
	got := said(r.Shifts(berlin(t, "2026-03-27 20:00"), berlin(t, "2026-03-31 20:00")))
	want := strings.TrimPrefix(`
03-27 20:00 CET 12h0m0s jonas
03-28 08:00 CET 12h0m0s 
03-28 20:00 CET 11h0m0s jonas
03-29 08:00 CEST 12h0m0s 
03-29 20:00 CEST 12h0m0s jonas
03-30 08:00 CEST 12h0m0s mira
03-30 20:00 CEST 12h0m0s ada
03-31 08:00 CEST 2h0m0s mira
03-31 10:00 CEST 1h0m0s jonas (override)
03-31 11:00 CEST 9h0m0s mira
`, "\n")
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if gaps := r.Gaps(berlin(t, "2026-03-27 20:00"), berlin(t, "2026-03-31 20:00")); len(gaps) != 2 {
		t.Errorf("gaps:\n%s", said(gaps))
	}
	with := c.WithOverrides([]Override{
		{Rota: "first", Person: "ada", From: berlin(t, "2026-03-31 10:30"), To: berlin(t, "2026-03-31 10:45")},
		{Rota: "first", Person: "gone", From: berlin(t, "2026-03-31 10:00"), To: berlin(t, "2026-03-31 10:45")},
	})
	if on := with.Rota("first").At(berlin(t, "2026-03-31 10:30")); on.Person != "ada" || !on.Override {
		t.Errorf("the later override is not in force: %+v", on)
	}
	if on := r.At(berlin(t, "2026-03-31 10:30")); on.Person != "jonas" {
		t.Errorf("the original changed: %+v", on)
	}
}

// TestShiftsAgree compares Shifts with every minute, over both changes of the clock in zones with odd ones.
func TestShiftsAgree(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "UTC", "Africa/Casablanca"} {
		c := parse(t, people+`
rotas:
  - name: first
    zone: `+zone+`
    layers:
      - {people: [ada, jonas, mira], start: 2026-01-01, handover: "02:15", rotate: 2 days, hours: "22:30-02:30"}
      - {people: [jonas, mira], start: 2026-01-03, handover: "01:45", rotate: daily, hours: "02:30-20:00", days: [sat-tue]}
`)
		r := c.Rota("first")
		from := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
		shifts, i := r.Shifts(from, from.AddDate(0, 10, 0)), 0
		for at := from; at.Before(from.AddDate(0, 10, 0)); at = at.Add(5 * time.Minute) {
			for !at.Before(shifts[i].To) {
				i++
			}
			if on := r.At(at); on.Person != shifts[i].Person {
				t.Fatalf("%s: at %s %q is on call, but the shift is %s", zone, at, on.Person, said(shifts[i:i+1]))
			}
		}
	}
}

// An override travels to the pages as JSON, with times in Unix milliseconds, and comes back as it was.
func TestOverrideAsJSON(t *testing.T) {
	want := Override{ID: 3, Rota: "first", Person: "ada", From: time.UnixMilli(1796143393679), To: time.UnixMilli(1796146993000), By: "mira"}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `"from":1796143393679,"to":1796146993000`) {
		t.Errorf("%s", text)
	}
	var got Override
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}
