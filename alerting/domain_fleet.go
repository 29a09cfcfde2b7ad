package alerting

import (
	"cmp"
	"slices"

	"bramble/alerting/alert"
)

// fleetIndex is the fleet by domain. It is immutable.
type fleetIndex struct {
	places  map[string]alert.Place
	domains []domainBoards
	byID    map[string]int
	of      map[string][]int // by board, the smallest kind first and the whole fleet last
}

// domainBoards is a domain and the boards in it.
type domainBoards struct {
	alert.Domain
	boards []string
}

func indexFleet(places map[string]alert.Place) *fleetIndex {
	f := &fleetIndex{places: places, byID: map[string]int{}, of: make(map[string][]int, len(places))}
	for board, p := range places {
		for _, d := range append(alert.DomainsOf(p.Labels), alert.FleetDomain()) {
			i, ok := f.byID[d.ID()]
			if !ok {
				i = len(f.domains)
				f.byID[d.ID()] = i
				f.domains = append(f.domains, domainBoards{Domain: d})
			}
			f.domains[i].boards = append(f.domains[i].boards, board)
			f.of[board] = append(f.of[board], i)
		}
	}
	return f
}

// in reports whether a board is in domain i.
func (f *fleetIndex) in(board string, i int) bool { return slices.Contains(f.of[board], i) }

// hasPeers reports whether a board shares a domain, other than the fleet, with another board.
func (f *fleetIndex) hasPeers(board string) bool {
	for _, i := range f.of[board] {
		if f.domains[i].ID() != alert.FleetDomain().ID() && len(f.domains[i].boards) > 1 {
			return true
		}
	}
	return false
}

// siblings returns the other domains of the same kind that share the next larger one with d, by name: the other
// switches of the rack, the other racks of the site.
func (f *fleetIndex) siblings(d alert.Domain) (out []domainBoards) {
	if d.IsFleet() {
		return nil
	}
	for _, o := range f.domains {
		if o.Rank() == d.Rank() && o.ID() != d.ID() && !slices.ContainsFunc(d.Kind().Within, func(l string) bool { return o.Value(l) != d.Value(l) }) {
			out = append(out, o)
		}
	}
	name := d.Kind().Name
	slices.SortFunc(out, func(a, b domainBoards) int { return cmp.Compare(a.Value(name), b.Value(name)) })
	return out
}
