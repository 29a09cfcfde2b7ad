// Package probe asks whether anything lives at a network address. It needs no
// root: it sends an ICMP echo where the kernel lets it (net.ipv4.ping_group_range)
// and tries a TCP connection beside it, whose refusal is an answer too.
//
// It owns no addresses and decides nothing: silence may be a firewall's.
package probe

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	// Timeout bounds one probe.
	Timeout = 1500 * time.Millisecond
	// again is when a lost echo is sent once more.
	again = 500 * time.Millisecond
	// port is the one that is tried: a board that does not listen there refuses.
	port = 22
)

// Alive reports whether the address answered before ctx ended or Timeout had
// passed. It is safe for concurrent use. A panic over an answer is the caller's.
func Alive(ctx context.Context, a netip.Addr) bool {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	a = a.Unmap()
	answers := make(chan answer, 2)
	for _, ask := range []func(context.Context, netip.Addr) bool{connect, echo} {
		go func() {
			var got answer
			defer func() { got.fault = recover(); answers <- got }()
			got.lives = ask(ctx, a)
		}()
	}
	first := <-answers
	if first.lives {
		cancel() // the other one ends at once
	}
	second := <-answers
	if fault := cmp.Or(first.fault, second.fault); fault != nil {
		panic(fault)
	}
	return first.lives || second.lives
}

type answer struct {
	lives bool
	fault any // the panic that ended the question
}

// connect tries a TCP connection.
func connect(ctx context.Context, a netip.Addr) bool {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(a.String(), strconv.Itoa(port)))
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	c.Close()
	return true
}

// echo sends an ICMP echo request, twice where the first one is lost.
func echo(ctx context.Context, a netip.Addr) bool {
	network, local, kind, reply, protocol := "udp4", "0.0.0.0", icmp.Type(ipv4.ICMPTypeEcho), icmp.Type(ipv4.ICMPTypeEchoReply), 1
	if a.Is6() {
		network, local, kind, reply, protocol = "udp6", "::", ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, 58
	}
	c, err := icmp.ListenPacket(network, local)
	if err != nil {
		return false // the kernel does not let this user ping
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	m := icmp.Message{Type: kind, Body: &icmp.Echo{Seq: rand.IntN(1 << 16), Data: []byte("bramble")}}
	packet, err := m.Marshal(nil)
	if err != nil {
		return false
	}
	to := &net.UDPAddr{IP: a.AsSlice(), Zone: a.Zone()}
	for ctx.Err() == nil {
		if _, err := c.WriteTo(packet, to); err != nil {
			return false
		}
		if answered(c, a, protocol, reply) {
			return true
		}
	}
	return false
}

// answered waits for the reply until the request is to be sent again. The kernel
// hands this socket only replies to its own requests.
func answered(c *icmp.PacketConn, a netip.Addr, protocol int, reply icmp.Type) bool {
	if err := c.SetReadDeadline(time.Now().Add(again)); err != nil {
		return false
	}
	b := make([]byte, 512)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return false
		}
		m, err := icmp.ParseMessage(protocol, b[:n])
		u, ok := from.(*net.UDPAddr)
		if err == nil && ok && m.Type == reply && u.AddrPort().Addr().Unmap().WithZone("") == a.WithZone("") {
			return true
		}
	}
}
