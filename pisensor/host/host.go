// Package host reads the accounting of a board's kernel: processor time and load, memory, when it
// was started, its network devices, its NFS root, and which kernel and system it runs. It knows no
// chip: that is pisensor/soc.
//
// Each source is a file of its own. A board that lacks one has no reading of it; pisensor/source
// owns how a source is read and how its failures are counted.
package host

import (
	"slices"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// Host is a board's kernel. Its items are to be read by one Group.
type Host struct {
	items []source.Item
	texts []*source.Text
}

// New names the kernel's sources below the roots. It opens nothing.
func New(roots source.Roots) *Host {
	r := roots.Complete()
	h := &Host{texts: description(r)}
	h.items = []source.Item{
		{Name: "stat", Reader: busy(r), Every: source.Calm},
		{Name: "loadavg", Reader: load(r), Every: source.Calm},
		{Name: "meminfo", Reader: newMemory(r), Every: source.Calm},
		{Name: "network", Reader: newNetwork(r), Every: source.Calm},
		{Name: "mountstats", Reader: newNFS(r), Every: source.Calm},
	}
	for _, x := range h.texts {
		h.items = append(h.items, x.Item())
	}
	return h
}

// Items returns the sources in the order in which they are to be read.
func (h *Host) Items() []source.Item { return slices.Clone(h.items) }

// Attributes appends kernel, operating system and boot id as they were last
// read, as far as they are known. Any goroutine may call it.
func (h *Host) Attributes(to []report.Attribute) []report.Attribute {
	for _, x := range h.texts {
		to = x.Append(to)
	}
	return to
}
