package presence

import (
	"slices"
	"strings"
	"time"
)

// Queue counts the messages of boards that the caller has seen, and those that
// wait for it: a report that waits there is the collector's delay, not silence.
type Queue struct {
	Seen, Waiting uint64
}

// Verdict says that a board is silent, with the known facts about it.
type Verdict struct {
	Board string
	Last  time.Time     // its last report; zero where the collector has forgotten it
	Due   time.Duration // how soon the next one was to come
	// Answer is the probe of its address.
	Answer Answer
	// Domain is the smallest domain that it shares with others, "" for none; of
	// its Peers there, so many Report.
	Domain         string
	Peers, Reports int
	// Stopped is how many more boards of the domain have a sensor that ended properly.
	Stopped int
}

// Look is the result of looking at the clock.
type Look struct {
	// Probe names boards whose addresses are to be asked now.
	Probe []string
	// Silent holds the boards that are silent from now on. Those that fell silent
	// together are in one Look.
	Silent []Verdict
}

// Look finds the boards whose reports are overdue. A board is judged when the messages that waited
// at its deadline are seen, its address has been probed, and each of its peers has reported since
// its first missed report or is overdue too. Call it once a second: a longer gap than Pause means
// that the collector itself was away, and everybody is given Grace.
func (f *Fleet) Look(at time.Time, q Queue) Look {
	if f.lookedAt.IsZero() || at.Sub(f.lookedAt) > Pause {
		f.expectAll(at.Add(Grace))
	}
	f.lookedAt = at
	var look Look
	waiting := f.overdue(at, q, &look)
	if len(waiting) == 0 {
		return look
	}
	fleet, domains := f.summarize(at, q, waiting)
	var judged []*board
	for _, b := range waiting {
		if b.known(at, q) && b.settled(at, fleet, domains) {
			judged = append(judged, b)
			look.Silent = append(look.Silent, b.verdict(domains))
		}
	}
	for _, b := range judged {
		b.state, b.deadline, b.overdue = Silent, time.Time{}, false
	}
	slices.SortFunc(look.Silent, func(a, b Verdict) int { return strings.Compare(a.Board, b.Board) })
	return look
}

// expectAll gives every board that reported, and did not say goodbye, until a time.
func (f *Fleet) expectAll(until time.Time) {
	for _, b := range f.boards {
		if b.state != Up {
			continue
		}
		b.overdue, b.probed, b.answer = false, false, Unknown
		if b.deadline.Before(until) {
			b.deadline = until
		}
	}
}

// overdue marks the boards whose deadline has passed and returns those that wait
// for their verdict.
func (f *Fleet) overdue(at time.Time, q Queue, look *Look) (waiting []*board) {
	for _, b := range f.boards {
		if b.state != Up || b.deadline.IsZero() || !at.After(b.deadline) {
			continue
		}
		if !b.overdue {
			b.overdue, b.queue = true, q.Seen+q.Waiting
			look.Probe = append(look.Probe, b.name)
		}
		waiting = append(waiting, b)
	}
	slices.Sort(look.Probe)
	return waiting
}

// summary is the evidence of a set of boards about one of them that is overdue.
type summary struct {
	watched, reports int
	stopped          int
	open             bool      // one of them is overdue, and not all is known of it yet
	oldest, newest   time.Time // last reports of those that are up and not overdue
}

// summarize looks at the whole fleet and at each domain of the boards that wait.
func (f *Fleet) summarize(at time.Time, q Queue, waiting []*board) (fleet summary, domains map[string]summary) {
	for _, b := range f.boards {
		fleet.add(b)
	}
	domains = map[string]summary{}
	for _, b := range waiting {
		for _, d := range b.domains {
			if _, ok := domains[d]; ok {
				continue
			}
			var s summary
			for peer := range f.domains[d] {
				s.add(peer)
			}
			domains[d] = s
		}
	}
	for _, b := range waiting {
		if b.known(at, q) {
			continue
		}
		fleet.open = true
		for _, d := range b.domains {
			s := domains[d]
			s.open = true
			domains[d] = s
		}
	}
	return fleet, domains
}

func (s *summary) add(b *board) {
	switch b.state {
	case Up, Silent:
		s.watched++
	case Stopped:
		s.stopped++
	}
	if b.state != Up || b.overdue {
		return
	}
	s.reports++
	if s.oldest.IsZero() || b.last.Before(s.oldest) {
		s.oldest = b.last
	}
	if b.last.After(s.newest) {
		s.newest = b.last
	}
}

// known reports whether the collector has read the messages that waited when the board became
// overdue, and has probed its address.
func (b *board) known(at time.Time, q Queue) bool {
	return q.Seen >= b.queue && (b.probed || !at.Before(b.deadline.Add(ProbeWait)))
}

// settled reports whether each of the board's peers has reported since its first
// missed report, or is known to be overdue as well; PeerWait bounds how long it
// waits for either. Of the whole fleet it is enough that anybody has.
func (b *board) settled(at time.Time, fleet summary, domains map[string]summary) bool {
	missed := b.last.Add(b.due) // a board that reported after it was up when b was not
	enough := !at.Before(b.deadline.Add(PeerWait))
	if fleet.reports == 0 && fleet.open || fleet.reports > 0 && !fleet.newest.After(missed) && !enough {
		return false
	}
	for _, d := range b.domains {
		if s := domains[d]; s.open || s.reports > 0 && !s.oldest.After(missed) && !enough {
			return false
		}
	}
	return true
}

func (b *board) verdict(domains map[string]summary) Verdict {
	v := Verdict{Board: b.name, Last: b.last, Due: b.due, Answer: b.answer}
	if !b.probed {
		v.Answer = Unasked
	}
	for _, d := range b.domains {
		if s := domains[d]; s.watched > 1 {
			v.Domain, v.Peers, v.Reports, v.Stopped = d, s.watched-1, s.reports, s.stopped
			break
		}
	}
	return v
}
