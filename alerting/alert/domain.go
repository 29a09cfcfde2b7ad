package alert

import (
	"slices"
	"strings"

	"bramble/storage/series"
)

// DomainKind is one way in which boards hang together.
type DomainKind struct {
	// Name is the registry's label, and the value of DomainLabel; Text is the kind in words.
	Name, Text string
	// Within are the kinds whose names scope this one's: racks of two sites may share a name.
	Within []string
}

// DomainKinds are ordered from the smallest to the largest. They are not to be changed.
var DomainKinds = []DomainKind{
	{Name: "switch", Within: []string{"rack", "site"}, Text: "switch"},
	{Name: "rack", Within: []string{"site"}, Text: "rack"},
	{Name: "nfs", Within: []string{"site"}, Text: "NFS server"},
	{Name: "site", Text: "site"},
}

// fleetKind is the domain of all boards: where none of them reports, they share the collector alone.
const fleetKind = "collector"

// Domain is something that boards share and can lose together: a switch, a rack, an NFS server, a site. It comes from
// the registry's labels alone. The zero value is none.
type Domain struct {
	kind   int // in DomainKinds; len(DomainKinds) for all boards
	labels []series.Label
	id     string
}

// DomainsOf returns the domains of a board with these registry labels, the smallest first.
func DomainsOf(labels map[string]string) []Domain {
	var out []Domain
	for i, k := range DomainKinds {
		if labels[k.Name] == "" {
			continue
		}
		ls := []series.Label{{Name: DomainLabel, Value: k.Name}, {Name: k.Name, Value: labels[k.Name]}}
		for _, w := range k.Within {
			ls = append(ls, series.Label{Name: w, Value: labels[w]})
		}
		out = append(out, newDomain(i, ls))
	}
	return out
}

func newDomain(kind int, labels []series.Label) Domain {
	labels = series.Sorted(labels)
	return Domain{kind: kind, labels: labels, id: series.Key(labels, "")}
}

// FleetDomain returns the domain of all boards.
func FleetDomain() Domain {
	return newDomain(len(DomainKinds), []series.Label{{Name: DomainLabel, Value: fleetKind}})
}

// DomainOf returns the domain of a domain's alert; false for any other alert.
func DomainOf(t *Transition) (Domain, bool) {
	name := t.Labels[DomainLabel]
	if name == fleetKind {
		return FleetDomain(), IsDomainRule(t.Rule)
	}
	i := slices.IndexFunc(DomainKinds, func(k DomainKind) bool { return k.Name == name })
	if i < 0 || !IsDomainRule(t.Rule) {
		return Domain{}, false
	}
	ls := []series.Label{{Name: DomainLabel, Value: name}, {Name: name, Value: t.Labels[name]}}
	for _, w := range DomainKinds[i].Within {
		ls = append(ls, series.Label{Name: w, Value: t.Labels[w]})
	}
	return newDomain(i, ls), true
}

// IsFleet reports whether the domain is all boards.
func (d Domain) IsFleet() bool { return d.kind >= len(DomainKinds) }

// Rank orders domains by their kind: that of a larger one is greater.
func (d Domain) Rank() int { return d.kind }

// Kind returns the domain's kind; the domain of all boards has none.
func (d Domain) Kind() DomainKind {
	if d.IsFleet() {
		return DomainKind{}
	}
	return DomainKinds[d.kind]
}

// Labels are those of the domain's alert, by name.
func (d Domain) Labels() []series.Label { return d.labels }

// ID is the same for the same domain.
func (d Domain) ID() string { return d.id }

// String returns the domain in words, such as "switch r1-a".
func (d Domain) String() string {
	if d.kind >= len(DomainKinds) {
		return "collector"
	}
	k := DomainKinds[d.kind]
	return k.Text + " " + d.Value(k.Name)
}

// Value returns the value of one of the labels, "" where the domain has no such label.
func (d Domain) Value(name string) string { return series.Get(d.labels, name) }

// Holds reports whether labels are of the domain: a board's, or those of a smaller domain.
func (d Domain) Holds(labels map[string]string) bool {
	for _, l := range d.labels {
		if l.Name != DomainLabel && labels[l.Name] != l.Value {
			return false
		}
	}
	return true
}

// DomainRulePrefix begins the rule ID of a domain's alert; the ID of the rule that led to it follows.
const DomainRulePrefix = "domain "

// DomainRule returns the rule ID of the domains' alerts that a rule leads to.
func DomainRule(rule string) string { return DomainRulePrefix + rule }

// IsDomainRule reports whether a rule ID is that of a domain's alert.
func IsDomainRule(rule string) bool { return strings.HasPrefix(rule, DomainRulePrefix) }

// BaseRule returns the ID of the rule that led to an alert, a domain's or a board's.
func BaseRule(rule string) string { return strings.TrimPrefix(rule, DomainRulePrefix) }

// IsBoardAlert reports whether an alert is one board's.
func IsBoardAlert(t *Transition) bool { return t.Labels[BoardLabel] != "" && !IsDomainRule(t.Rule) }

// PagesDomainsOnly reports whether the alert's rule pages for domains, and for boards without a customer.
func PagesDomainsOnly(t *Transition) bool { return t.Labels[PagesLabel] == PagesDomains }

// Title begins a sentence: "Switch r1-a (rack r1)".
func (d Domain) Title() string {
	s := d.String()
	s = strings.ToUpper(s[:1]) + s[1:]
	if d.kind < len(DomainKinds) {
		for _, w := range d.Kind().Within {
			if v := d.Value(w); v != "" {
				return s + " (" + w + " " + v + ")"
			}
		}
	}
	return s
}

// Outer names the place that holds d: " of rack r1".
func (d Domain) Outer() string {
	for _, w := range d.Kind().Within {
		if v := d.Value(w); v != "" {
			return " of " + w + " " + v
		}
	}
	return ""
}

// Upper begins a text with a capital.
func Upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// Place is a board as the domains see it.
type Place struct {
	// Labels are the registry's that are in force.
	Labels map[string]string
	// Watched is true for a board that is expected to report: it counts among the boards of its domains. One that was
	// never heard of, or whose sensor said goodbye, does not.
	Watched bool
}
