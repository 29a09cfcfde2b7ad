package ingest

import (
	"fmt"
	"sync"
	"time"

	"bramble/pisensor/report"
)

// maxLease bounds the lease that a browser can ask for. A board grants no more either
// (pisensor/sensor).
const maxLease = time.Minute

// viewers remembers the people who look at each board, for the number that its owner sees. The zero
// value has none.
type viewers struct {
	mu    sync.Mutex
	until map[string]map[string]time.Time // by board and viewer
}

// look notes that a viewer looks at a board until a time, and returns how many do now.
func (v *viewers) look(board, viewer string, now, until time.Time) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.until == nil {
		v.until = make(map[string]map[string]time.Time)
	}
	if v.until[board] == nil {
		v.until[board] = make(map[string]time.Time)
	}
	v.until[board][viewer] = until
	for b, all := range v.until {
		for name, end := range all {
			if end.Before(now) {
				delete(all, name)
			}
		}
		if len(all) == 0 {
			delete(v.until, b)
		}
	}
	return len(v.until[board])
}

// Watch asks a board for live mode, one reading a second, on behalf of a viewer
// and for a time of at most a minute. It ends by itself.
func (in *Ingest) Watch(board, viewer string, d time.Duration) error {
	if known, ok := in.Registry.Board(board); !ok || known.Retired {
		return fmt.Errorf("watch board %q: no such board", board)
	}
	d, now := min(d, maxLease), time.Now()
	n := in.viewers.look(board, viewer, now, now.Add(d))
	c := report.Control{Lease: d.Milliseconds(), Watchers: uint64(min(n, report.MaxWatchers))}
	return in.Conn.Publish(report.ControlSubject(board), c.Append(nil))
}

// sendLines sends a board the temperatures near which it samples faster.
func (in *Ingest) sendLines(board string) {
	c := report.Control{SetLines: true, Lines: sendable(in.Lines())}
	in.publish(report.ControlSubject(board), c.Append(nil))
}

// sendable leaves out lines that a board would refuse: those that no reading can reach, and those
// beyond report.MaxLines.
func sendable(lines []report.Line) []report.Line {
	var kept []report.Line
	for _, l := range lines {
		if d := report.Define(l.Metric); d != nil && l.Level >= d.Min && l.Level <= d.Max && len(kept) < report.MaxLines {
			kept = append(kept, l)
		}
	}
	return kept
}
