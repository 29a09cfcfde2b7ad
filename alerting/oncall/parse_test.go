package oncall

import (
	"strings"
	"testing"
	"time"
)

const whole = `
zone: Europe/Berlin
people:
  - name: ada
    channels:
      - {receiver: ada-phone, after: 5m}
      - {receiver: ada-ntfy}
      - {receiver: ada-sms, after: 2m}
    ack_notice: ada-ntfy
  - name: jonas
    channels: [{receiver: jonas-ntfy}]
rotas:
  - name: first
    layers:
      - {people: [ada, jonas], start: 2026-01-05, handover: "09:00", rotate: weekly}
policies:
  - name: default
    receivers: [oncall]
    steps:
      - {notify: [first], wait: 5m}
      - {notify: [first, jonas]}
    repeat: 3
    fallback: everybody
`

func TestParse(t *testing.T) {
	c := parse(t, whole)
	if got := c.Person("ada").Channels; got[0].Receiver != "ada-ntfy" || got[1].After != 2*time.Minute || got[2].Receiver != "ada-phone" {
		t.Errorf("channels %+v", got)
	}
	p := c.PolicyOf("oncall")
	if p == nil || p.Repeat != 3 || p.Steps[1].Wait != defaultWait || c.PolicyOf("other") != nil {
		t.Fatalf("policy %+v", p)
	}
	who, gaps := c.Who(p.Steps[1], berlin(t, "2026-01-12 10:00"))
	if strings.Join(who, " ") != "jonas" || len(gaps) != 0 {
		t.Errorf("step pages %v, gaps %v", who, gaps)
	}
	if who, gaps = c.Who(p.Steps[1], berlin(t, "2026-01-01 10:00")); strings.Join(who, " ") != "jonas" || len(gaps) != 1 {
		t.Errorf("step in a gap pages %v, gaps %v", who, gaps)
	}
	if c := parse(t, ""); len(c.People) != 0 {
		t.Error("an empty file has people")
	}
}

// TestParseRefuses wants each fault named with its line, its value and the accepted values.
func TestParseRefuses(t *testing.T) {
	f := func(old, new string, want ...string) {
		t.Helper()
		text := strings.Replace(whole, old, new, 1)
		if text == whole {
			t.Fatalf("%q is not in the file", old)
		}
		_, err := Parse([]byte(text))
		if err == nil {
			t.Errorf("%q passed", new)
			return
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: got %q, want %q", new, err, w)
			}
		}
	}
	f("zone: Europe/Berlin", "zone: Europe/Berln", `2: zone: "Europe/Berln" is no IANA time zone`)
	f("zone: Europe/Berlin", "zone: Local", `"Local"`)
	f("zone: Europe/Berlin\n", "\n", "13: rota first has no zone")
	f("people: [ada, jonas], start", "people: [ada, jonsa], start", `15: person "jonsa" is not among people: known are ada, jonas`)
	f("2026-01-05", "5.1.2026", `15: `, `"5.1.2026" is not a day`)
	f(`"09:00"`, `"25:00"`, `15: handover: "25:00"`)
	f("weekly", "monthly", `15: rotate: "monthly": want daily, weekly`)
	f("weekly}", `weekly, hours: "8-8"}`, "15: hours:")
	f("weekly}", `weekly, days: [fri-mo]}`, `15: days: "fri-mo"`)
	f("after: 2m", "after: 2 minutes", `8: after: "2 minutes"`)
	f("after: 2m", "after: 48h", `8: after: "48h"`)
	f("wait: 5m", "wait: 0s", `20: policy default: wait: "0s"`)
	f("[first, jonas]", "[frist]", `21: policy default: "frist" is neither a person nor a rota: known are ada, jonas, first`)
	f("repeat: 3", "repeat: forever", `22: policy default: repeat: "forever"`)
	f("    repeat", "    reepat", "22: unknown key reepat")
	f("name: jonas", "name: ada", `10: person: name "ada" stands in line 4 already`)
	f("name: first", "name: ada", `13: rota: name "ada" stands in line 4 already`)
	for _, name := range []string{"-jonas", "jonas+ada", strings.Repeat("é", 64), `""`} {
		f("name: jonas", "name: "+name, "10: person: name ", "want letters, digits, spaces, dots and dashes, at most 63")
	}
	f("[{receiver: jonas-ntfy}]", "[]", "10: person jonas has no channel")
	f("receivers: [oncall]", "receivers: [oncall, oncall]", `18: policy default: receiver "oncall" leads to a policy already`)
	f("[{receiver: jonas-ntfy}]", "7", "11: cannot take !!int `7` here")
	f("zone: Europe/Berlin", "zone: [a", "did not find")
}

func TestCheck(t *testing.T) {
	c := parse(t, whole)
	has := map[string]int{"ada-ntfy": 1, "ada-sms": 1, "ada-phone": 1, "jonas-ntfy": 1, "oncall": 0, "everybody": 2}
	ask := func(r string) (int, bool) { n, ok := has[r]; return n, ok }
	if err := c.Check(ask); err != nil {
		t.Fatal(err)
	}
	has["ada-sms"] = 2
	delete(has, "jonas-ntfy")
	delete(has, "oncall")
	has["everybody"] = 0
	err := c.Check(ask)
	for _, want := range []string{
		`8: person ada: receiver "ada-sms" has 2 integrations`, `11: person jonas: alertmanager.yml has no receiver "jonas-ntfy"`,
		`18: policy default: alertmanager.yml has no receiver "oncall"`, `23: policy default: fallback: "everybody"`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestPersonOf(t *testing.T) {
	c := parse(t, whole)
	for receiver, want := range map[string]string{"ada-sms": "ada", "jonas-ntfy": "jonas", "oncall": "", "nobody": ""} {
		if got := c.PersonOf(receiver); got != want {
			t.Errorf("%s is %q's, want %q", receiver, got, want)
		}
	}
	c.Person("jonas").Channels[0].Receiver = "ada-sms"
	if got := c.PersonOf("ada-sms"); got != "" {
		t.Errorf("a receiver of two is %s's", got)
	}
}

// FuzzParse wants the rotas of every file that parses to answer.
func FuzzParse(f *testing.F) {
	f.Add(whole)
	f.Add(people)
	f.Add("rotas: [{name: x, zone: UTC, layers: [{people: [], hours: 1-2}]}]")
	f.Add("people: [{name: !!binary x}]")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse([]byte(text))
		if err != nil {
			return
		}
		from := time.Date(2026, 3, 20, 0, 0, 0, 0, time.UTC)
		for _, r := range c.Rotas {
			at := from
			for _, s := range r.Shifts(from, from.AddDate(0, 0, 10)) {
				if !s.From.Equal(at) || !s.To.After(s.From) {
					t.Fatalf("shift %+v does not begin at %s", s, at)
				}
				at = s.To
			}
		}
	})
}
