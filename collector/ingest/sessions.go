package ingest

import (
	"slices"
	"time"

	"bramble/pisensor/report"
)

const (
	// maxSessions of a board are remembered: each start of its sensor is one.
	maxSessions = 8
	// maxRanges of a session are remembered. A sensor leaves gaps only where its backlog is on the
	// way; ticks of a forgotten range are stored once more and deduplicated.
	maxRanges = 64
	// maxMissing bounds the missing ticks of one session, whose numbers the board's owner can
	// choose: 11 days at 1 Hz.
	maxMissing = 1_000_000
)

// session holds which ticks of one run of a sensor are taken.
type session struct {
	ID    uint32         `json:"id"`
	Taken []report.Range `json:"taken"` // ascending, apart from each other
	// Next is the number after its last tick, as its goodbye said it; 0 = it said none.
	Next uint64 `json:"next,omitempty"`
}

// sessions are a board's last ones, the newest last.
type sessions []session

// has reports whether all ticks [first, first+count) of the session are taken.
func (s sessions) has(id uint32, first, count uint64) bool {
	x := s.of(id)
	return x != nil && slices.ContainsFunc(x.Taken, func(r report.Range) bool {
		return r.First <= first && first+count <= r.First+r.Count
	})
}

// around returns all taken ticks that stand in one row with tick n, which is
// one of them.
func (s sessions) around(id uint32, n uint64) report.Range {
	if x := s.of(id); x != nil {
		for _, r := range x.Taken {
			if r.First <= n && n < r.First+r.Count {
				return r
			}
		}
	}
	return report.Range{}
}

// of returns a session, nil where it is not known.
func (s sessions) of(id uint32) *session {
	i := slices.IndexFunc(s, func(x session) bool { return x.ID == id })
	if i < 0 {
		return nil
	}
	return &s[i]
}

// missing returns how many ticks between the first that arrived and the last
// that is known of did not.
func (s *session) missing() (n uint64) {
	var end uint64
	for i, r := range s.Taken {
		if i > 0 {
			n += r.First - end
		}
		end = r.First + r.Count
	}
	return min(n+max(s.Next, end)-end, maxMissing)
}

// follow looks at a report before it is taken. If it is the first of a new session, the one before
// has ended, and its missing ticks will never arrive. follow returns the number of those that are
// known, and the time since seen, its last tick, in which there may have been more. A goodbye has
// the number of a session's ticks; after a reboot none were taken before the boot.
func (s sessions) follow(r *report.Report, seen int64) (ticks uint64, unaccounted time.Duration) {
	if x := s.of(r.Session); x != nil {
		if r.Goodbye {
			x.Next = max(x.Next, r.First+uint64(r.Ticks()))
		}
		return 0, 0
	}
	if len(s) == 0 || r.Ticks() == 0 {
		return 0, 0
	}
	last := &s[len(s)-1]
	if last.Next == 0 {
		end := r.At(0)
		if r.Anchor > seen {
			end = r.Anchor
		}
		unaccounted = time.Duration(end-seen) * time.Millisecond
	}
	return last.missing(), unaccounted
}

// take remembers ticks [first, first+count).
func (s *sessions) take(id uint32, first, count uint64) {
	x := s.of(id)
	if x == nil {
		if len(*s) == maxSessions {
			*s = slices.Delete(*s, 0, 1)
		}
		*s = append(*s, session{ID: id})
		x = &(*s)[len(*s)-1]
	}
	x.take(report.Range{First: first, Count: count})
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
