package oncall

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

const (
	// defaultWait is how long a step waits for an acknowledgement where it does not say so.
	defaultWait = 5 * time.Minute
	// maxWait bounds waits and delays of channels: a later message is no page.
	maxWait = 24 * time.Hour
	// maxRepeat bounds how often the steps are repeated.
	maxRepeat = 100
)

// text is a string that knows its line.
type text struct {
	is   string
	line int
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (t *text) UnmarshalYAML(n *yaml.Node) error {
	t.line = n.Line
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return fmt.Errorf("line %d: want a word", n.Line)
	}
	t.is = n.Value
	return nil
}

type (
	file struct {
		Zone     text         `yaml:"zone"`
		People   []filePerson `yaml:"people"`
		Rotas    []fileRota   `yaml:"rotas"`
		Policies []filePolicy `yaml:"policies"`
	}
	filePerson struct {
		Name      text          `yaml:"name"`
		Channels  []fileChannel `yaml:"channels"`
		AckNotice text          `yaml:"ack_notice"`
	}
	fileChannel struct {
		Receiver text `yaml:"receiver"`
		After    text `yaml:"after"`
	}
	fileRota struct {
		Name      text           `yaml:"name"`
		Zone      text           `yaml:"zone"`
		Layers    []fileLayer    `yaml:"layers"`
		Overrides []fileOverride `yaml:"overrides"`
	}
	fileLayer struct {
		Name     text   `yaml:"name"`
		People   []text `yaml:"people"`
		Start    text   `yaml:"start"`
		Handover text   `yaml:"handover"`
		Rotate   text   `yaml:"rotate"`
		Hours    text   `yaml:"hours"`
		Days     []text `yaml:"days"`
	}
	fileOverride struct {
		Person text `yaml:"person"`
		From   text `yaml:"from"`
		To     text `yaml:"to"`
	}
	filePolicy struct {
		Name      text       `yaml:"name"`
		Receivers []text     `yaml:"receivers"`
		Steps     []fileStep `yaml:"steps"`
		Repeat    text       `yaml:"repeat"`
		Fallback  text       `yaml:"fallback"`
	}
	fileStep struct {
		Notify []text `yaml:"notify"`
		Wait   text   `yaml:"wait"`
	}
)

// Parse reads an oncall.yml. Its error has a line for each thing that is wrong, with the line of the file in front. An
// empty file is an empty configuration.
func Parse(b []byte) (*Config, error) {
	var f file
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, cleanYAML(err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("a second document begins: want one")
	}
	p := &parser{config: &Config{}, named: map[string]int{}}
	p.file(&f)
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	return p.config, nil
}

var yamlLine = regexp.MustCompile(`(?m)^\s*line (\d+): `)

// cleanYAML gives the decoder's errors the form of ours: the line first, a line for each.
func cleanYAML(err error) error {
	s := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "unmarshal errors:\n")
	s = regexp.MustCompile(`field (\S+) not found in type oncall\.\S+`).ReplaceAllString(s, "unknown key $1")
	s = regexp.MustCompile(`cannot unmarshal (\S+ .*) into \S+`).ReplaceAllString(s, "cannot take $1 here")
	return errors.New(yamlLine.ReplaceAllString(s, "$1: "))
}

// parser turns a file into a configuration and collects the problems.
type parser struct {
	config *Config
	named  map[string]int // people and rotas share their names, as steps name both
	errs   []error
}

func (p *parser) bad(line int, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%d: "+format, append([]any{line}, args...)...))
}

func (p *parser) file(f *file) {
	for i := range f.People {
		p.person(&f.People[i])
	}
	zone := p.zone(f.Zone)
	for i := range f.Rotas {
		p.rota(&f.Rotas[i], zone)
	}
	for i := range f.Policies {
		p.policy(&f.Policies[i])
	}
}

// isName reports whether a text can name a person or a rota. A regular expression of these classes would cost each start of
// the program 20 ms.
func isName(s string) bool {
	n := 0
	for _, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsNumber(r) && (n == 0 || !strings.ContainsRune(" ._-", r)) {
			return false
		}
		n++
	}
	return 0 < n && n <= 63
}

// name takes a new name of a person or a rota.
func (p *parser) name(what string, t text) {
	switch {
	case !isName(t.is):
		p.bad(t.line, "%s: name %q: want letters, digits, spaces, dots and dashes, at most 63", what, t.is)
	case p.named[t.is] != 0:
		p.bad(t.line, "%s: name %q stands in line %d already", what, t.is, p.named[t.is])
	default:
		p.named[t.is] = t.line
	}
}

func (p *parser) person(f *filePerson) {
	p.name("person", f.Name)
	out := Person{Name: f.Name.is, AckNotice: f.AckNotice.is, line: f.Name.line, noticeLine: f.AckNotice.line}
	if len(f.Channels) == 0 {
		p.bad(f.Name.line, "person %s has no channel: give at least one receiver of alertmanager.yml", f.Name.is)
	}
	for _, c := range f.Channels {
		ch := Channel{Receiver: c.Receiver.is, line: c.Receiver.line}
		if c.Receiver.is == "" {
			p.bad(f.Name.line, "person %s: a channel has no receiver", f.Name.is)
		}
		ch.After = p.duration(c.After, "after", 0)
		out.Channels = append(out.Channels, ch)
	}
	slices.SortStableFunc(out.Channels, func(a, b Channel) int { return int(a.After - b.After) })
	p.config.People = append(p.config.People, out)
}

func (p *parser) duration(t text, what string, without time.Duration) time.Duration {
	if t.line == 0 {
		return without
	}
	d, err := model.ParseDuration(t.is)
	if err != nil || time.Duration(d) > maxWait {
		p.bad(t.line, "%s: %q is not a duration such as 90s or 5m, at most %s", what, t.is, model.Duration(maxWait))
	}
	return time.Duration(d)
}

// zone returns the time zone of a file or a rota, nil where none is given. A bad one is UTC until the file is mended.
func (p *parser) zone(t text) *time.Location {
	if t.line == 0 {
		return nil
	}
	z, err := time.LoadLocation(t.is)
	if err != nil || t.is == "" || t.is == "Local" {
		p.bad(t.line, "zone: %q is no IANA time zone such as Europe/Berlin", t.is)
		return time.UTC
	}
	return z
}

// rota adds a rota, whose zone is its own or else that of the file.
func (p *parser) rota(f *fileRota, ofFile *time.Location) {
	p.name("rota", f.Name)
	out := &Rota{Name: f.Name.is, Zone: cmp.Or(p.zone(f.Zone), ofFile, time.UTC)}
	if f.Zone.line == 0 && ofFile == nil {
		p.bad(f.Name.line, "rota %s has no zone: give one such as Europe/Berlin or UTC", f.Name.is)
	}
	if len(f.Layers) == 0 {
		p.bad(f.Name.line, "rota %s has no layer", f.Name.is)
	}
	for i := range f.Layers {
		out.Layers = append(out.Layers, p.layer(&f.Layers[i], f.Name, i))
	}
	for _, o := range f.Overrides {
		out.Overrides = append(out.Overrides, p.override(&o, out))
	}
	p.config.Rotas = append(p.config.Rotas, out)
}

func (p *parser) layer(f *fileLayer, rota text, i int) Layer {
	l := Layer{Name: f.Name.is, Days: 1}
	line := max(f.Name.line, f.Start.line, rota.line)
	if l.Name == "" {
		l.Name = "layer " + strconv.Itoa(i+1)
	}
	if len(f.People) == 0 {
		p.bad(line, "rota %s, %s: nobody is in it", rota.is, l.Name)
	}
	for _, t := range f.People {
		p.known(t)
		l.People = append(l.People, t.is)
	}
	first, err := time.Parse(time.DateOnly, f.Start.is)
	if err != nil {
		p.bad(line, "rota %s, %s: start: %q is not a day such as 2026-01-05", rota.is, l.Name, f.Start.is)
	}
	l.First = dayOf(first)
	l.Handover = p.clock(f.Handover, "handover", line)
	l.Days = p.turn(f.Rotate, line)
	if f.Hours.line != 0 {
		from, to, ok := strings.Cut(f.Hours.is, "-")
		l.From = p.clock(text{strings.TrimSpace(from), f.Hours.line}, "hours", line)
		l.To = p.clock(text{strings.TrimSpace(to), f.Hours.line}, "hours", line)
		if !ok || l.From == l.To {
			p.bad(f.Hours.line, "hours: %q: want hours such as 20:00-08:00", f.Hours.is)
		}
	}
	for _, d := range f.Days {
		l.On = append(l.On, p.weekdays(d)...)
	}
	return l
}

// turn reads how long a turn lasts.
func (p *parser) turn(t text, line int) int {
	switch t.is {
	case "daily":
		return 1
	case "weekly":
		return 7
	}
	n, err := strconv.Atoi(strings.TrimSuffix(t.is, " days"))
	if err != nil || n < 1 || n > 366 {
		p.bad(max(t.line, line), `rotate: %q: want daily, weekly, or a number of days such as "14 days"`, t.is)
		return 1
	}
	return n
}

func (p *parser) clock(t text, what string, line int) Clock {
	c, err := time.Parse("15:04", t.is)
	if err != nil {
		p.bad(max(t.line, line), `%s: %q is not a time of the day such as "09:00"`, what, t.is)
		return 0
	}
	return Clock(c.Hour()*60 + c.Minute())
}

var weekdayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// weekdays reads mon, or mon-fri.
func (p *parser) weekdays(t text) (out []time.Weekday) {
	from, to, ok := strings.Cut(t.is, "-")
	if !ok {
		to = from
	}
	a, b := slices.Index(weekdayNames, from), slices.Index(weekdayNames, to)
	if a < 0 || b < 0 {
		p.bad(t.line, "days: %q: want days such as mon or mon-fri, of %s", t.is, strings.Join(weekdayNames, ", "))
		return nil
	}
	for d := a; ; d = (d + 1) % 7 {
		out = append(out, time.Weekday(d))
		if d == b {
			return out
		}
	}
}

// localTime is how overrides in the file are written.
const localTime = "2006-01-02 15:04"

func (p *parser) override(f *fileOverride, r *Rota) Override {
	p.known(f.Person)
	o := Override{Rota: r.Name, Person: f.Person.is}
	var err error
	if o.From, err = time.ParseInLocation(localTime, f.From.is, r.Zone); err != nil {
		p.bad(max(f.From.line, f.Person.line), "override: from: %q is not a time such as %q, in the rota's zone", f.From.is, localTime)
	}
	if o.To, err = time.ParseInLocation(localTime, f.To.is, r.Zone); err != nil {
		p.bad(max(f.To.line, f.Person.line), "override: to: %q is not a time such as %q, in the rota's zone", f.To.is, localTime)
	} else if !o.To.After(o.From) {
		p.bad(f.To.line, "override: ends at %s, before it begins", f.To.is)
	}
	return o
}

// known refuses the name of a person that is not there.
func (p *parser) known(t text) {
	if p.config.Person(t.is) == nil {
		p.bad(t.line, "person %q is not among people: %s", t.is, p.names(false))
	}
}

func (p *parser) names(rotas bool) string {
	var names []string
	for _, person := range p.config.People {
		names = append(names, person.Name)
	}
	for _, r := range p.config.Rotas {
		if rotas {
			names = append(names, r.Name)
		}
	}
	if len(names) == 0 {
		return "there are none"
	}
	return "known are " + strings.Join(names, ", ")
}

func (p *parser) policy(f *filePolicy) {
	out := &Policy{Name: f.Name.is, Fallback: f.Fallback.is, line: f.Name.line, fallbackLine: f.Fallback.line}
	switch {
	case f.Name.is == "":
		p.bad(f.Name.line, "a policy has no name")
	case slices.ContainsFunc(p.config.Policies, func(o *Policy) bool { return o.Name == out.Name }):
		p.bad(f.Name.line, "policy %s stands twice", f.Name.is)
	}
	if len(f.Receivers) == 0 {
		p.bad(f.Name.line, "policy %s: no receiver of alertmanager.yml leads to it: give `receivers`", f.Name.is)
	}
	for _, t := range f.Receivers {
		if other := p.config.PolicyOf(t.is); other != nil || slices.Contains(out.Receivers, t.is) {
			p.bad(t.line, "policy %s: receiver %q leads to a policy already", f.Name.is, t.is)
		}
		out.Receivers, out.receiverLines = append(out.Receivers, t.is), append(out.receiverLines, t.line)
	}
	if len(f.Steps) == 0 {
		p.bad(f.Name.line, "policy %s has no step", f.Name.is)
	}
	for _, s := range f.Steps {
		out.Steps = append(out.Steps, p.step(&s, f.Name))
	}
	if f.Repeat.line != 0 {
		n, err := strconv.Atoi(f.Repeat.is)
		if err != nil || n < 0 || n > maxRepeat {
			p.bad(f.Repeat.line, "policy %s: repeat: %q is not a number from 0 to %d", f.Name.is, f.Repeat.is, maxRepeat)
		}
		out.Repeat = n
	}
	p.config.Policies = append(p.config.Policies, out)
}

func (p *parser) step(f *fileStep, policy text) Step {
	s := Step{Wait: p.duration(f.Wait, "wait", defaultWait)}
	if f.Wait.line != 0 && s.Wait < time.Second {
		p.bad(f.Wait.line, "policy %s: wait: %q: nobody acknowledges in less than 1s", policy.is, f.Wait.is)
	}
	if len(f.Notify) == 0 {
		p.bad(max(f.Wait.line, policy.line), "policy %s: a step notifies nobody", policy.is)
	}
	for _, t := range f.Notify {
		if p.config.Person(t.is) == nil && p.config.Rota(t.is) == nil {
			p.bad(t.line, "policy %s: %q is neither a person nor a rota: %s", policy.is, t.is, p.names(true))
		}
		s.Notify = append(s.Notify, t.is)
	}
	return s
}

// Check holds the configuration against alertmanager.yml: integrations returns how many integrations a receiver has,
// and whether there is such a receiver. Its error is of the form of Parse's.
func (c *Config) Check(integrations func(receiver string) (int, bool)) error {
	var p parser
	channel := func(line int, who, receiver string) {
		switch n, ok := integrations(receiver); {
		case !ok:
			p.bad(line, "%s: alertmanager.yml has no receiver %q", who, receiver)
		case n != 1:
			p.bad(line, "%s: receiver %q has %d integrations: a channel is one receiver with one, so that what a person gets can be counted", who, receiver, n)
		}
	}
	for _, person := range c.People {
		for _, ch := range person.Channels {
			channel(ch.line, "person "+person.Name, ch.Receiver)
		}
		if person.AckNotice != "" {
			channel(person.noticeLine, "person "+person.Name+": ack_notice", person.AckNotice)
		}
	}
	for _, policy := range c.Policies {
		for i, r := range policy.Receivers {
			if _, ok := integrations(r); !ok {
				p.bad(policy.receiverLines[i], "policy %s: alertmanager.yml has no receiver %q", policy.Name, r)
			}
		}
		if f := policy.Fallback; f != "" && c.Person(f) == nil {
			if n, ok := integrations(f); !ok || n == 0 {
				p.bad(policy.fallbackLine, "policy %s: fallback: %q is neither a person nor a receiver of alertmanager.yml that sends anything", policy.Name, f)
			}
		}
	}
	return errors.Join(p.errs...)
}
