// Package soc reads the sources of a Raspberry Pi about its processor: temperature, requested,
// highest and measured clock, core voltage, throttle bits, under-voltage, fan, model and firmware.
// The kernel's own accounting belongs to pisensor/host.
//
// Each source is a file of its own. A board that lacks one has no reading of it; pisensor/source
// owns how a source is read and how its failures are counted.
package soc

import (
	"slices"

	"bramble/pisensor/report"
	"bramble/pisensor/source"
)

// SoC is a board's processor. Its items are to be read by one Group.
type SoC struct {
	items        []source.Item
	mailbox      *mailbox
	underVoltage *underVoltage
	texts        []*source.Text
}

// New names the processor's sources below the roots. It opens nothing.
func New(roots source.Roots) *SoC {
	r := roots.Complete()
	s := &SoC{mailbox: newMailbox(r), underVoltage: newUnderVoltage(r), texts: description(r)}
	s.items = []source.Item{
		// The clock comes first: the work of reading the rest would raise it (the
		// governor sees the load).
		{Name: "cpufreq", Reader: requestedClock(r)},
		{Name: "thermal", Reader: temperature(r)},
		{Name: "mailbox", Reader: s.mailbox},
		// Behind the mailbox, in whose place they stand where it does not answer.
		{Name: "get_throttled", Reader: newThrottled(r)},
		{Name: "rpi_volt", Reader: s.underVoltage},
		{Name: "fan", Reader: fan(r)},
		{Name: "cpufreq_max", Reader: maximumClock(r), Every: source.Seldom},
	}
	for _, x := range s.texts {
		s.items = append(s.items, x.Item())
	}
	return s
}

// Items returns the sources in the order in which they are to be read.
func (s *SoC) Items() []source.Item { return slices.Clone(s.items) }

// Wake returns the channel that receives when the kernel says that
// under-voltage has begun or ended. It is never closed.
func (s *SoC) Wake() <-chan struct{} { return s.underVoltage.wake }

// Attributes appends model, revision and firmware as they were last read, as
// far as the board has them. Any goroutine may call it.
func (s *SoC) Attributes(to []report.Attribute) []report.Attribute {
	for _, x := range s.texts {
		to = x.Append(to)
	}
	return s.mailbox.firmware.Append(to)
}
