package domain

import (
	"cmp"
	"slices"

	"bramble/alerting/alert"
)

const (
	// minTogether is how many boards make a domain's failure; two are enough where the domain has no more.
	minTogether = 3
	// oneIn is the share of a domain's boards that is enough for a failure which no customer causes. Fewer in a large
	// domain are boards of their own that happen to be hot.
	oneIn = 20
)

// burst is alerts of one rule that began closely behind each other.
type burst struct {
	fired map[string]bool // the boards
	// other holds boards on which the rule has been firing for longer: they say nothing about this failure.
	other map[string]bool
	// majority is set for failures that a customer may cause himself: only more than half of a domain's boards are a failure of it.
	majority bool
	// silent is set where the boards do not report: how others fare is then told by who reports.
	silent bool
}

// newBurst returns one without boards, for the alerts that are looked at.
func newBurst(alerts []*boardAlert) burst {
	b := burst{fired: map[string]bool{}, other: map[string]bool{}}
	for _, a := range alerts {
		b.majority = b.majority || alert.PagesDomainsOnly(&a.last)
		b.silent = b.silent || a.last.Annotations[alert.LastReportNote] != ""
	}
	return b
}

// found is a domain that explains a burst.
type found struct {
	domain        int // in the index
	boards, among int // so many of so many fired
}

// explain returns the smallest domains that explain a burst. Boards in none of them stand alone. A larger domain takes
// the place of a smaller one where it has as much to say about its other boards.
func (f *fleetIndex) explain(b burst) []found {
	all := f.count(b)
	if whole, ok := all[f.byID[alert.FleetDomain().ID()]]; ok && b.majority && f.nobodyIsWell(whole, all) {
		return []found{whole}
	}
	var candidates []found
	for i, c := range all {
		if f.domains[i].ID() != alert.FleetDomain().ID() && b.explains(c.boards, c.among) {
			candidates = append(candidates, c)
		}
	}
	slices.SortFunc(candidates, func(x, y found) int {
		return cmp.Or(cmp.Compare(x.among, y.among), cmp.Compare(f.domains[x.domain].Rank(), f.domains[y.domain].Rank()),
			cmp.Compare(f.domains[x.domain].ID(), f.domains[y.domain].ID()))
	})
	var chosen []found
	for _, c := range candidates {
		chosen = f.consider(b, chosen, c)
	}
	return f.apart(b, chosen)
}

// count counts, for each domain that a board of the burst is in.
func (f *fleetIndex) count(b burst) map[int]found {
	all := map[int]found{}
	for board := range b.fired {
		for _, i := range f.of[board] {
			c := all[i]
			c.domain = i
			c.boards++
			all[i] = c
		}
	}
	for i, c := range all {
		for _, board := range f.domains[i].boards {
			if b.fired[board] || f.places[board].Watched && !b.other[board] {
				c.among++
			}
		}
		all[i] = c
	}
	return all
}

// explains reports whether so many boards of so many are a failure of their domain.
func (b burst) explains(boards, among int) bool {
	switch {
	case boards < minTogether:
		return boards == 2 && among == 2
	case b.majority:
		return 2*boards > among
	}
	return oneIn*boards >= among
}

// consider takes a larger domain into account. It replaces the smaller ones in it if the rest of it without the
// largest of them is affected as well.
func (f *fleetIndex) consider(b burst, chosen []found, c found) []found {
	var inner, rest []found
	for _, s := range chosen {
		if f.within(s.domain, c.domain) {
			inner = append(inner, s)
		} else {
			rest = append(rest, s)
		}
	}
	if len(inner) == 0 {
		return append(chosen, c)
	}
	largest := slices.MaxFunc(inner, func(x, y found) int { return cmp.Compare(x.boards, y.boards) })
	left, among := c.boards-largest.boards, c.among-largest.among
	if left > 0 && (left == among || b.explains(left, among)) {
		return append(rest, c)
	}
	return chosen
}

// within reports whether all boards of domain i are in domain j.
func (f *fleetIndex) within(i, j int) bool {
	for _, board := range f.domains[i].boards {
		if !f.in(board, j) {
			return false
		}
	}
	return true
}

// apart drops domains that explain nothing which another one does not: those that cross, such as a rack and an NFS
// server. The one that explains the most stays.
func (f *fleetIndex) apart(b burst, chosen []found) (out []found) {
	slices.SortStableFunc(chosen, func(x, y found) int { return cmp.Compare(y.boards, x.boards) })
	covered := map[string]bool{}
	for _, c := range chosen {
		fresh := 0
		for _, board := range f.domains[c.domain].boards {
			if b.fired[board] && !covered[board] {
				fresh++
			}
		}
		if fresh < c.boards && fresh < minTogether {
			continue
		}
		for _, board := range f.domains[c.domain].boards {
			covered[board] = true
		}
		out = append(out, c)
	}
	return out
}

// nobodyIsWell reports whether all boards are affected, and no switch or rack is all that there is. Where they are silent,
// the collector's own network has most likely failed.
func (f *fleetIndex) nobodyIsWell(whole found, all map[int]found) bool {
	if whole.boards < minTogether || whole.boards != whole.among {
		return false
	}
	for i, c := range all {
		if d := f.domains[i]; !d.IsFleet() && d.Kind().Name != "site" && c.among == whole.among {
			return false
		}
	}
	return true
}

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
