package oncall

import (
	"slices"
	"time"
)

// Config is one oncall.yml. It is immutable; the zero value has no policy and pages nobody.
type Config struct {
	People   []Person
	Rotas    []*Rota
	Policies []*Policy
}

// Person is somebody who can be paged.
type Person struct {
	Name string
	// Channels are in the order of their delays.
	Channels []Channel
	// AckNotice is the receiver that notifies the person when somebody else has acknowledged; empty for none.
	AckNotice string

	line, noticeLine int
}

// Channel is one way to reach a person: a receiver of alertmanager.yml.
type Channel struct {
	Receiver string
	// After is how long after the person's turn began; 0 is at once.
	After time.Duration

	line int
}

// Policy says who is paged one after the other until somebody acknowledges.
type Policy struct {
	Name string
	// Receivers are those of alertmanager.yml that lead to the policy.
	Receivers []string
	Steps     []Step
	// Repeat is how often the steps are gone through again after the first time.
	Repeat int
	// Fallback is a person or a receiver of alertmanager.yml; empty for none.
	Fallback string

	line, fallbackLine int
	receiverLines      []int
}

// Step is one step of a policy.
type Step struct {
	// Notify names people and rotas.
	Notify []string
	// Wait is how long an acknowledgement may take before the next step.
	Wait time.Duration
}

// Person returns one by name, nil where there is none.
func (c *Config) Person(name string) *Person {
	if i := slices.IndexFunc(c.People, func(p Person) bool { return p.Name == name }); i >= 0 {
		return &c.People[i]
	}
	return nil
}

// Rota returns one by name, nil where there is none.
func (c *Config) Rota(name string) *Rota {
	if i := slices.IndexFunc(c.Rotas, func(r *Rota) bool { return r.Name == name }); i >= 0 {
		return c.Rotas[i]
	}
	return nil
}

// PolicyOf returns the policy that a receiver of alertmanager.yml leads to, nil for none.
func (c *Config) PolicyOf(receiver string) *Policy {
	if i := slices.IndexFunc(c.Policies, func(p *Policy) bool { return slices.Contains(p.Receivers, receiver) }); i >= 0 {
		return c.Policies[i]
	}
	return nil
}

// PersonOf is whose channel a receiver is; empty where it is nobody's, or more than one person's.
func (c *Config) PersonOf(receiver string) (name string) {
	for _, p := range c.People {
		if !slices.ContainsFunc(p.Channels, func(ch Channel) bool { return ch.Receiver == receiver }) {
			continue
		}
		if name != "" {
			return ""
		}
		name = p.Name
	}
	return name
}

// WithOverrides returns a copy whose rotas have further overrides; those of rotas or people that are not there are left
// out. Later overrides win over earlier ones.
func (c *Config) WithOverrides(more []Override) *Config {
	out := *c
	out.Rotas = make([]*Rota, len(c.Rotas))
	for i, r := range c.Rotas {
		with := *r
		with.Overrides = slices.Clone(r.Overrides)
		for _, o := range more {
			if o.Rota == r.Name && c.Person(o.Person) != nil {
				with.Overrides = append(with.Overrides, o)
			}
		}
		out.Rotas[i] = &with
	}
	return &out
}

// Who returns the people whom a step pages at a time, each once, and the rotas that have nobody.
func (c *Config) Who(s Step, at time.Time) (people, gaps []string) {
	for _, name := range s.Notify {
		if r := c.Rota(name); r != nil {
			on := r.At(at)
			if on.Person == "" {
				gaps = append(gaps, r.Name)
				continue
			}
			name = on.Person
		}
		if !slices.Contains(people, name) {
			people = append(people, name)
		}
	}
	return people, gaps
}
