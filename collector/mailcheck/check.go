package mailcheck

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"
)

// patience is how long one question may take.
const patience = 10 * time.Second

// Grade says how one question was answered.
type Grade string

// Grades, the best first.
const (
	Good  Grade = "ok"
	Doubt Grade = "check" // right or wrong, depending on facts that cannot be seen from here
	Bad   Grade = "bad"
)

// Finding is one answer and the advice about it.
type Finding struct {
	About  string // such as "SPF"
	Grade  Grade
	What   string // the fact, with names and values
	Advice string // "" where nothing is to be done
}

// Sender is the mail sender that is checked.
type Sender struct {
	From       string // the address
	Host, Port string // of the smarthost
	Hello      string
	RequireTLS bool
	Implicit   bool
}

// Checker asks DNS and the smarthost.
type Checker struct {
	// Resolver answers for the DNS; nil is the system's.
	Resolver *net.Resolver
	// Selectors are those of DKIM to look for; none means the usual ones.
	Selectors []string
}

// NewResolver returns a resolver that asks the DNS server at an address, such as 127.0.0.1:5353.
func NewResolver(address string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
}

func (c *Checker) resolver() *net.Resolver {
	if c.Resolver != nil {
		return c.Resolver
	}
	return net.DefaultResolver
}

// Check asks everything about a sender. Its findings are in the order in which they are best mended.
func (c *Checker) Check(ctx context.Context, s Sender, tls TLS) []Finding {
	_, domain, ok := strings.Cut(s.From, "@")
	if !ok || domain == "" {
		return []Finding{{"sender", Bad, fmt.Sprintf("%q is no address", s.From), "Set smtp_from in alertmanager.yml to an address such as bramble@example.org."}}
	}
	addresses, findings := c.smarthost(ctx, s, tls)
	findings = append(findings, c.spf(ctx, s, domain, addresses))
	findings = append(findings, c.dkim(ctx, domain)...)
	return append(findings, c.dmarc(ctx, domain))
}

// AnyBad reports whether mail will not be taken as things are.
func AnyBad(all []Finding) bool {
	for _, f := range all {
		if f.Grade == Bad {
			return true
		}
	}
	return false
}
