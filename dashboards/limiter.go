package dashboards

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

const (
	freeFailures  = 5                // wrong passwords before an address has to wait
	failureRefill = 12 * time.Second // one more attempt each; 5 a minute
	maxAddresses  = 16384
)

// limiter counts by address what may be done only so often, such as failed logins. It is safe for concurrent use.
type limiter struct {
	free   float64 // at once
	refill time.Duration

	mu     sync.Mutex
	failed map[netip.Prefix]failures
}

type failures struct {
	count float64
	at    time.Time
}

func newLimiter(free float64, refill time.Duration) *limiter {
	return &limiter{free: free, refill: refill, failed: map[netip.Prefix]failures{}}
}

func (l *limiter) now(f failures, t time.Time) float64 {
	return max(0, f.count-float64(t.Sub(f.at))/float64(l.refill))
}

// wait is how long an address has to wait before its next attempt.
func (l *limiter) wait(p netip.Prefix) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	over := l.now(l.failed[p], time.Now()) - l.free + 1
	return time.Duration(max(0, over) * float64(l.refill))
}

// attempt counts one; succeeded takes it back, so that parallel attempts count too.
func (l *limiter) attempt(p netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if len(l.failed) >= maxAddresses {
		l.prune(now)
	}
	l.failed[p] = failures{l.now(l.failed[p], now) + 1, now}
}

func (l *limiter) succeeded(p netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.failed, p)
}

func (l *limiter) prune(now time.Time) {
	for p, f := range l.failed {
		if l.now(f, now) == 0 {
			delete(l.failed, p)
		}
	}
	if len(l.failed) >= maxAddresses {
		clear(l.failed)
	}
}

// addressOf is the caller's address, or its /64 for IPv6, of which one machine has many addresses.
func addressOf(r *http.Request) netip.Prefix {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // the length is valid for the family
	return p
}
