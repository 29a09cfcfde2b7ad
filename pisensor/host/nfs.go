package host

import (
	"path/filepath"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// operations are the NFS operations whose latency is reported: those that a
// program waits for. OPEN is NFSv4's.
var operations = [...]string{"READ", "WRITE", "GETATTR", "LOOKUP", "ACCESS", "OPEN"}

// lookForNFS is how many reads pass before a board without NFS is asked again
// whether it has: 10 min at the default rate.
const lookForNFS = 60

// nfs is one NFS mount: that at / or, where / is none (an overlay over a root
// of NFS, or a card), the first that the kernel lists. Only one, since the
// latencies of two servers have no meaning together.
type nfs struct {
	*source.File
	wait   int // reads until a board without a mount is asked again
	last   mount
	primed bool // last holds something
	now    mount
}

func newNFS(r source.Roots) *nfs {
	return &nfs{File: source.NewSlowFile(source.At(filepath.Join(r.Procfs, "self/mountstats")))}
}

// Prompt is source.Prompt's.
func (n *nfs) Prompt() bool { return n.wait > 0 || n.File.Prompt() }

// Read adds the mean round trip of each operation since the last read, and the
// retransmissions so far. An operation of which there was none has no reading.
func (n *nfs) Read(t *report.Tick, scratch []byte) error {
	if n.wait--; n.wait >= 0 {
		return source.ErrAbsent
	}
	b, err := n.ReadAll(scratch)
	if err != nil {
		return err
	}
	found, err := n.now.parse(b)
	if err != nil {
		return err
	}
	if !found {
		n.wait, n.primed = lookForNFS, false
		return source.ErrAbsent
	}
	return n.add(t)
}

func (n *nfs) add(t *report.Tick) error {
	before, primed := n.last, n.primed
	n.last, n.primed = n.now, true
	if err := source.Add(t, report.NFSRetransmissions, n.now.retransmissions); err != nil {
		return err
	}
	for i, name := range operations {
		ops, ms := n.now.ops[i].count-before.ops[i].count, n.now.ops[i].rtt-before.ops[i].rtt
		if !primed || ops <= 0 || ms < 0 {
			continue // nothing was asked, or it is another mount
		}
		if err := source.AddInstance(t, report.NFSRTT, name, ms*1000/ops); err != nil {
			return err
		}
	}
	return nil
}
