package alerting

import (
	"slices"
	"strings"

	"bramble/storage/series"
)

// domainLabel marks the alert of a domain and names its kind. No alert of a board has it.
const domainLabel = "domain"

// domainKind is one way in which boards hang together.
type domainKind struct {
	name string // the registry's label, and the value of domainLabel
	// within are the kinds whose names scope this one's: racks of two sites may share a name.
	within []string
	text   string
}

// domainKinds are ordered from the smallest to the largest.
var domainKinds = []domainKind{
	{name: "switch", within: []string{"rack", "site"}, text: "switch"},
	{name: "rack", within: []string{"site"}, text: "rack"},
	{name: "nfs", within: []string{"site"}, text: "NFS server"},
	{name: "site", text: "site"},
}

// fleetKind is the domain of all boards: where none of them reports, what they share is the collector.
const fleetKind = "collector"

// Domain is something that boards share and can lose together: a switch, a rack, an NFS server, a site. It comes from
// the registry's labels alone. The zero value is none.
type Domain struct {
	kind   int // in domainKinds; len(domainKinds) for all boards
	labels []series.Label
	id     string
}

// DomainsOf returns the domains of a board with these registry labels, the smallest first.
func DomainsOf(labels map[string]string) []Domain {
	var out []Domain
	for i, k := range domainKinds {
		if labels[k.name] == "" {
			continue
		}
		ls := []series.Label{{Name: domainLabel, Value: k.name}, {Name: k.name, Value: labels[k.name]}}
		for _, w := range k.within {
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

func fleetDomain() Domain {
	return newDomain(len(domainKinds), []series.Label{{Name: domainLabel, Value: fleetKind}})
}

// domainOf returns the domain of a domain's alert.
func domainOf(t *Transition) (Domain, bool) {
	name := t.Labels[domainLabel]
	if name == fleetKind {
		return fleetDomain(), isDomainRule(t.Rule)
	}
	i := slices.IndexFunc(domainKinds, func(k domainKind) bool { return k.name == name })
	if i < 0 || !isDomainRule(t.Rule) {
		return Domain{}, false
	}
	ls := []series.Label{{Name: domainLabel, Value: name}, {Name: name, Value: t.Labels[name]}}
	for _, w := range domainKinds[i].within {
		ls = append(ls, series.Label{Name: w, Value: t.Labels[w]})
	}
	return newDomain(i, ls), true
}

// ID is the same for the same domain.
func (d Domain) ID() string { return d.id }

// String returns the domain in words, such as "switch r1-a".
func (d Domain) String() string {
	if d.kind >= len(domainKinds) {
		return "collector"
	}
	k := domainKinds[d.kind]
	return k.text + " " + d.value(k.name)
}

func (d Domain) value(name string) string { return series.Get(d.labels, name) }

// holds reports whether labels are of the domain: a board's, or those of a smaller domain.
func (d Domain) holds(labels map[string]string) bool {
	for _, l := range d.labels {
		if l.Name != domainLabel && labels[l.Name] != l.Value {
			return false
		}
	}
	return true
}

// domainRule names the alerts of domains that a rule leads to.
const domainRulePrefix = "domain "

func domainRule(rule string) string       { return domainRulePrefix + rule }
func isDomainRule(rule string) bool       { return strings.HasPrefix(rule, domainRulePrefix) }
func baseRule(rule string) string         { return strings.TrimPrefix(rule, domainRulePrefix) }
func isBoardAlert(t *Transition) bool     { return t.Labels[boardLabel] != "" && !isDomainRule(t.Rule) }
func pagesDomainsOnly(t *Transition) bool { return t.Labels[pagesLabel] == pagesDomains }

// title begins a sentence: "Switch r1-a (rack r1)".
func (d Domain) title() string {
	s := d.String()
	s = strings.ToUpper(s[:1]) + s[1:]
	if d.kind < len(domainKinds) {
		for _, w := range domainKinds[d.kind].within {
			if v := d.value(w); v != "" {
				return s + " (" + w + " " + v + ")"
			}
		}
	}
	return s
}

// outer names what d lies in: " of rack r1".
func (d Domain) outer() string {
	for _, w := range domainKinds[d.kind].within {
		if v := d.value(w); v != "" {
			return " of " + w + " " + v
		}
	}
	return ""
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// Place is a board as the domains see it.
type Place struct {
	// Labels are the registry's that are in force.
	Labels map[string]string
	// Watched is true for a board that is expected to report: it counts among the boards of its domains. One that was
	// never heard of, or whose sensor said goodbye, does not.
	Watched bool
}
