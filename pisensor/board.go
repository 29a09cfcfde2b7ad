package main

import (
	"log/slog"
	"slices"

	"bramble/pisensor/host"
	"bramble/pisensor/report"
	"bramble/pisensor/soc"
	"bramble/pisensor/source"
)

// board is this board with all its sources.
type board struct {
	*source.Group
	soc  *soc.SoC
	host *host.Host
}

// openBoard names the board's sources; the first Read opens them.
func openBoard(roots source.Roots, log *slog.Logger) *board {
	b := &board{soc: soc.New(roots), host: host.New(roots)}
	b.Group = source.NewGroup(log, slices.Concat(b.soc.Items(), b.host.Items())...)
	return b
}

// Wake receives when the board calls for a tick at once.
func (b *board) Wake() <-chan struct{} { return b.soc.Wake() }

// Attributes describes the board as its sources have last read it.
func (b *board) Attributes() []report.Attribute {
	return b.host.Attributes(b.soc.Attributes(nil))
}
