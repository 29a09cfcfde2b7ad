package broker

import "net/netip"

// Address returns the network address of the board's last connection since the
// start, invalid where there was none.
func (b *Broker) Address(board string) netip.Addr {
	b.gate.mu.Lock()
	defer b.gate.mu.Unlock()
	p := b.gate.live[board]
	if p == nil {
		return netip.Addr{}
	}
	from, err := netip.ParseAddrPort(p.from)
	if err != nil {
		return netip.Addr{}
	}
	return from.Addr().Unmap()
}
