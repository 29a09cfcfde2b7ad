package ingest

import (
	"slices"

	"bramble/pisensor/report"
)

const (
	// maxSessions of a board are remembered: each start of its sensor is one.
	maxSessions = 8
	// maxRanges of a session are remembered. A sensor leaves gaps only where
	// its backlog is on the way; what is forgotten is stored once more and
	// deduplicated.
	maxRanges = 64
)

// session holds which ticks of one run of a sensor are taken.
type session struct {
	ID    uint32         `json:"id"`
	Taken []report.Range `json:"taken"` // ascending, apart from each other
}

// sessions are a board's last ones, the newest last.
type sessions []session

// has reports whether all ticks [first, first+count) of the session are taken.
func (s sessions) has(id uint32, first, count uint64) bool {
	for i := range s {
		if s[i].ID != id {
			continue
		}
		for _, r := range s[i].Taken {
			if r.First <= first && first+count <= r.First+r.Count {
				return true
			}
		}
	}
	return false
}

// around returns all taken ticks that stand in one row with tick n, which is
// one of them.
func (s sessions) around(id uint32, n uint64) report.Range {
	for i := range s {
		if s[i].ID != id {
			continue
		}
		for _, r := range s[i].Taken {
			if r.First <= n && n < r.First+r.Count {
				return r
			}
		}
	}
	return report.Range{}
}

// take remembers ticks [first, first+count).
func (s *sessions) take(id uint32, first, count uint64) {
	i := slices.IndexFunc(*s, func(x session) bool { return x.ID == id })
	if i < 0 {
		if len(*s) == maxSessions {
			*s = slices.Delete(*s, 0, 1)
		}
		*s = append(*s, session{ID: id})
		i = len(*s) - 1
	}
	(*s)[i].take(report.Range{First: first, Count: count})
}

// take merges a range into those taken.
func (s *session) take(n report.Range) {
	end := func(r report.Range) uint64 { return r.First + r.Count }
	if last := len(s.Taken) - 1; last >= 0 && end(s.Taken[last]) == n.First { // the usual case
		s.Taken[last].Count += n.Count
		return
	}
	from := 0
	for from < len(s.Taken) && end(s.Taken[from]) < n.First {
		from++
	}
	to := from
	for to < len(s.Taken) && s.Taken[to].First <= end(n) {
		last := max(end(n), end(s.Taken[to]))
		n.First = min(n.First, s.Taken[to].First)
		n.Count = last - n.First
		to++
	}
	s.Taken = slices.Replace(s.Taken, from, to, n)
	if len(s.Taken) > maxRanges {
		s.Taken = slices.Delete(s.Taken, 0, 1)
	}
}
