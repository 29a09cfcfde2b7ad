package host

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"bramble/pisensor/source"
)

// mount holds the kernel's counters of one NFS mount.
type mount struct {
	ops             [len(operations)]operation
	retransmissions int64 // requests that were sent more than once, all operations together
}

// operation holds the cost of one kind of request: the number of answers, and the milliseconds from
// sending to answer in total.
type operation struct{ count, rtt int64 }

// parse finds the mount in /proc/self/mountstats: the last NFS at /, which
// covers those before it, else the first NFS anywhere.
func (m *mount) parse(b []byte) (found bool, err error) {
	var lines []byte
	for len(b) > 0 {
		var line []byte
		line, b, _ = bytes.Cut(b, []byte{'\n'})
		point, isNFS := mountLine(line)
		if isNFS && (!found || string(point) == "/") {
			lines, found = b, true
		}
	}
	if !found {
		return false, nil
	}
	*m = mount{}
	return true, m.operations(lines)
}

// mountLine takes "device D mounted on P with fstype nfs4 statvers=1.1" apart.
// The kernel writes blanks in names as \040.
func mountLine(line []byte) (point []byte, isNFS bool) {
	if !isMount(line) {
		return nil, false
	}
	_, rest, _ := bytes.Cut(line, []byte(" mounted on "))
	point, rest = source.Field(rest)
	rest, _ = bytes.CutPrefix(rest, []byte(" with fstype "))
	kind, _ := source.Field(rest)
	return point, string(kind) == "nfs" || string(kind) == "nfs4"
}

func isMount(line []byte) bool { return bytes.HasPrefix(line, []byte("device ")) }

var errPerOp = errors.New("mountstats: an NFS mount without per-op statistics")

// operations reads the per-op statistics of the mount whose lines these are,
// up to those of the next mount.
func (m *mount) operations(lines []byte) error {
	perOp := false
	for len(lines) > 0 && !isMount(lines) {
		var line []byte
		line, lines, _ = bytes.Cut(lines, []byte{'\n'})
		line = bytes.TrimSpace(line)
		switch {
		case string(line) == "per-op statistics":
			perOp = true
		case perOp && len(line) > 0:
			if err := m.operation(line); err != nil {
				return err
			}
		}
	}
	if !perOp {
		return errPerOp
	}
	return nil
}

// Columns of an operation's line behind its name (kernel, net/sunrpc/stats.c;
// the same in statvers 1.0 and 1.1, which adds errors at the end).
const (
	opsColumn = 0
	sentOnce  = 1
	rttColumn = 6
)

// largest keeps sums and microseconds far from overflow.
const largest = 1 << 50

func (m *mount) operation(line []byte) error {
	name, rest, ok := bytes.Cut(line, []byte{':'})
	if !ok {
		return fmt.Errorf("mountstats: %.32q names no operation", line)
	}
	var columns [rttColumn + 1]int64
	for i := range columns {
		var word []byte
		var err error
		word, rest = source.Field(rest)
		if columns[i], err = source.Integer(word); err != nil || columns[i] < 0 || columns[i] > largest {
			return fmt.Errorf("mountstats: %.64q is no operation's line", line)
		}
	}
	m.retransmissions += max(columns[sentOnce]-columns[opsColumn], 0)
	if i := slices.IndexFunc(operations[:], func(o string) bool { return o == string(name) }); i >= 0 {
		m.ops[i] = operation{columns[opsColumn], columns[rttColumn]}
	}
	return nil
}
