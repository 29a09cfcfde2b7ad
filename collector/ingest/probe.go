package ingest

import (
	"context"
	"net/netip"
	"sync"

	"bramble/collector/presence"
	"bramble/collector/probe"
)

// maxProbes bounds the probes that are under way: each takes two sockets for at
// most probe.Timeout.
const maxProbes = 256

// answer is the result of a probe.
type answer struct {
	board  string
	answer presence.Answer
}

// locate takes over the address of a board's last connection.
func (p *presenceLoop) locate(b *board) {
	if a := p.in.Address(b.name); a.IsValid() {
		b.address = a
	}
}

// probe asks the addresses of boards whether anything lives there. An address
// that several boards share says nothing of one of them.
func (p *presenceLoop) probe(boards []string) {
	if len(boards) == 0 {
		return
	}
	shared := map[netip.Addr]int{}
	for _, b := range p.in.boards {
		p.locate(b)
		shared[b.address]++
	}
	var asked []*board
	for _, name := range boards {
		b := p.in.boards[name]
		switch {
		case !b.address.IsValid():
			p.fleet.Probed(name, presence.Unknown)
		case shared[b.address] > 1:
			p.fleet.Probed(name, presence.Shared)
		default:
			asked = append(asked, b)
		}
	}
	p.ask(asked)
}

// ask probes boards, so many at a time.
func (p *presenceLoop) ask(boards []*board) {
	type target struct {
		board   string
		address netip.Addr
	}
	targets := make(chan target, len(boards))
	for _, b := range boards {
		targets <- target{b.name, b.address}
	}
	close(targets)
	p.probes.Go(func() {
		ctx, cancel := context.WithCancel(context.Background())
		p.probes.Go(func() {
			select {
			case <-p.in.stopping:
				cancel()
			case <-ctx.Done():
			}
		})
		var work sync.WaitGroup
		for range min(len(boards), maxProbes) {
			work.Go(func() {
				for t := range targets {
					p.in.faults.guard("probe a board's address", t.board, func() { p.answer(t.board, probe.Alive(ctx, t.address)) })
				}
			})
		}
		work.Wait()
		cancel()
	})
}

func (p *presenceLoop) answer(board string, lives bool) {
	a := answer{board, presence.NoAnswer}
	if lives {
		a.answer = presence.Answers
	}
	select {
	case p.answers <- a:
	case <-p.in.stopping:
	}
}
