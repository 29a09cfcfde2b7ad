package ingest

import (
	"fmt"
	"time"

	"bramble/pisensor/report"
)

// maxLease bounds what a browser can ask for at a time.
const maxLease = time.Minute

// Watch asks a board for live mode, one reading a second, for a time of at most
// a minute. It ends by itself.
func (in *Ingest) Watch(board string, watchers int, d time.Duration) error {
	if known, ok := in.Registry.Board(board); !ok || known.Retired {
		return fmt.Errorf("watch board %q: no such board", board)
	}
	c := report.Control{Lease: min(d, maxLease).Milliseconds(), Watchers: uint64(watchers)}
	return in.Conn.Publish(report.ControlSubject(board), c.Append(nil))
}

// sendLines tells a board near which temperatures to look more often.
func (in *Ingest) sendLines(board string) {
	c := report.Control{SetLines: true, Lines: in.Lines()}
	in.publish(report.ControlSubject(board), c.Append(nil))
}
