package alerting

import (
	"cmp"
	"slices"
)

// fleetIndex is the fleet by domain. It is immutable.
type fleetIndex struct {
	places  map[string]Place
	domains []domainBoards
	byID    map[string]int
	of      map[string][]int // by board, the smallest kind first and the whole fleet last
}

// domainBoards is a domain and the boards in it.
type domainBoards struct {
	Domain
	boards []string
}

func indexFleet(places map[string]Place) *fleetIndex {
	f := &fleetIndex{places: places, byID: map[string]int{}, of: make(map[string][]int, len(places))}
	for board, p := range places {
		for _, d := range append(DomainsOf(p.Labels), fleetDomain()) {
			i, ok := f.byID[d.id]
			if !ok {
				i = len(f.domains)
				f.byID[d.id] = i
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
		if f.domains[i].id != fleetDomain().id && len(f.domains[i].boards) > 1 {
			return true
		}
	}
	return false
}

// siblings returns the other domains of the same kind that share the next larger one with d, by name: the other
// switches of the rack, the other racks of the site.
func (f *fleetIndex) siblings(d Domain) (out []domainBoards) {
	if d.kind >= len(domainKinds) {
		return nil
	}
	for _, o := range f.domains {
		if o.kind == d.kind && o.id != d.id && !slices.ContainsFunc(domainKinds[d.kind].within, func(l string) bool { return o.value(l) != d.value(l) }) {
			out = append(out, o)
		}
	}
	name := domainKinds[d.kind].name
	slices.SortFunc(out, func(a, b domainBoards) int { return cmp.Compare(a.value(name), b.value(name)) })
	return out
}
