package mailcheck

import (
	"context"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"

	"blitiri.com.ar/go/spf"
)

// usualSelectors are the default names of DKIM keys at mail servers and providers.
var usualSelectors = []string{
	"default", "mail", "dkim", "s1", "s2", "selector1", "selector2", "google", "k1", "k2", "k3", "smtp", "mandrill", "mx", "fm1", "fm2", "fm3", "2026", "2025",
}

// minRSA is the shortest key that receivers take, goodRSA the length that signers should use (RFC
// 8301). Bits.
const minRSA, goodRSA = 1024, 2048

// text looks up TXT records; none is no error.
func (c *Checker) text(ctx context.Context, name string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	found, err := c.resolver().LookupTXT(ctx, name)
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return nil, nil
	}
	return found, err
}

// with keeps the records that begin with a version.
func with(records []string, version string) (out []string) {
	for _, r := range records {
		if v, _, _ := strings.Cut(r, " "); strings.EqualFold(strings.TrimSuffix(v, ";"), version) {
			out = append(out, r)
		}
	}
	return out
}

func (c *Checker) spf(ctx context.Context, s Sender, domain string, smarthost []net.IP) Finding {
	const about = "SPF"
	records, err := c.text(ctx, domain)
	if err != nil {
		return Finding{about, Bad, fmt.Sprintf("%s: %v", domain, err), "The domain's name servers must answer, or nobody's mail server will believe the sender."}
	}
	records = with(records, "v=spf1")
	switch {
	case len(records) == 0:
		return Finding{about, Bad, domain + " has no SPF record", fmt.Sprintf(`Publish a TXT record at %s such as "v=spf1 %s -all", with whatever sends its mail.`, domain, mechanisms(smarthost))}
	case len(records) > 1:
		return Finding{about, Bad, fmt.Sprintf("%s has %d SPF records: %q", domain, len(records), records), "Join them into one: receivers refuse to judge by two."}
	case strings.Contains(strings.ToLower(records[0]), "+all"), strings.HasSuffix(strings.ToLower(records[0]), " all"):
		return Finding{about, Bad, fmt.Sprintf("%s lets everybody send: %q", domain, records[0]), "End the record with -all or ~all: many receivers take +all for spam."}
	}
	public := publicOf(smarthost)
	if len(public) == 0 {
		return Finding{about, Doubt, fmt.Sprintf("%q; the smarthost has no public address that it could be judged by", records[0]), "It must name the public address that the smarthost sends from."}
	}
	for _, ip := range public {
		ctx, cancel := context.WithTimeout(ctx, patience)
		result, err := spf.CheckHostWithSender(ip, domain, s.From, spf.WithResolver(c.resolver()), spf.WithContext(ctx))
		cancel()
		switch result {
		case spf.Pass:
		case spf.PermError, spf.TempError:
			return Finding{about, Bad, fmt.Sprintf("%q: %s: %v", records[0], result, err), "Mend the record: receivers treat it as if there were none. It may cause ten lookups at most."}
		default:
			return Finding{about, Doubt, fmt.Sprintf("%q says %s of %s, an address of the smarthost", records[0], result, ip),
				fmt.Sprintf("Add %s, unless the smarthost sends from other addresses: then ask its operator for the include: to add.", mechanisms([]net.IP{ip}))}
		}
	}
	return Finding{about, Good, fmt.Sprintf("%q passes the smarthost's addresses", records[0]), ""}
}

func publicOf(ips []net.IP) (out []net.IP) {
	for _, ip := range ips {
		if !ip.IsLoopback() && !ip.IsPrivate() && !ip.IsLinkLocalUnicast() && !ip.IsUnspecified() {
			out = append(out, ip)
		}
	}
	return out
}

// mechanisms writes addresses as SPF does.
func mechanisms(ips []net.IP) string {
	var out []string
	for _, ip := range publicOf(ips) {
		if ip.To4() != nil {
			out = append(out, "ip4:"+ip.String())
		} else {
			out = append(out, "ip6:"+ip.String())
		}
	}
	if len(out) == 0 {
		return "ip4:THE-SMARTHOST'S-ADDRESS"
	}
	return strings.Join(out, " ")
}

func (c *Checker) dkim(ctx context.Context, domain string) (out []Finding) {
	selectors, named := c.Selectors, true
	if len(selectors) == 0 {
		selectors, named = usualSelectors, false
	}
	for _, selector := range selectors {
		name := selector + "._domainkey." + domain
		records, err := c.text(ctx, name)
		switch {
		case err != nil && named:
			out = append(out, Finding{"DKIM", Bad, fmt.Sprintf("%s: %v", name, err), "The domain's name servers must answer."})
		case len(records) == 0 && named:
			out = append(out, Finding{"DKIM", Bad, "there is no key at " + name, "Publish the smarthost's public key there, or name the selector that it signs with."})
		case len(records) > 0:
			out = append(out, judgeKey(name, records))
		}
	}
	if len(out) == 0 {
		out = append(out, Finding{"DKIM", Doubt, fmt.Sprintf("%s has a key under none of the usual selectors", domain),
			"Look at a mail that the smarthost has sent: s= in its DKIM-Signature is the selector; give it with --selector. Without any signature, switch signing on there."})
	}
	return out
}

// judgeKey looks at a DKIM key record (RFC 6376, 3.6.1).
func judgeKey(name string, records []string) Finding {
	bad := func(why, advice string) Finding {
		return Finding{"DKIM", Bad, name + ": " + why, advice}
	}
	if len(records) > 1 {
		return bad(fmt.Sprintf("%d records", len(records)), "Leave one: receivers may take any of them.")
	}
	tags, err := parseTags(records[0])
	if err != nil {
		return bad(err.Error(), "Publish the record as the smarthost prints it.")
	}
	if v, ok := tags["v"]; ok && v != "DKIM1" {
		return bad(fmt.Sprintf("version %q, want DKIM1", v), "Publish the record as the smarthost prints it.")
	}
	if p, ok := tags["p"]; !ok || p == "" {
		return bad("the key is revoked (p= is empty)", "Publish the key that the smarthost signs with now.")
	}
	key, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(tags["p"]), ""))
	if err != nil {
		return bad("p= is no base64: "+err.Error(), "Long keys are cut by some name servers' forms: publish it in strings of up to 255 characters.")
	}
	if strings.EqualFold(tags["k"], "ed25519") {
		if len(key) != ed25519.PublicKeySize {
			return bad(fmt.Sprintf("an Ed25519 key of %d bytes, want 32", len(key)), "Publish the record as the smarthost prints it.")
		}
		return Finding{"DKIM", Good, name + ": an Ed25519 key", "Few receivers check Ed25519 yet: sign with RSA as well."}
	}
	public, err := x509.ParsePKIXPublicKey(key)
	rsaKey, isRSA := public.(*rsa.PublicKey)
	switch {
	case err != nil || !isRSA:
		return bad("p= is no RSA key", "Long keys are cut by some name servers' forms: publish it in strings of up to 255 characters.")
	case rsaKey.N.BitLen() < minRSA:
		return bad(fmt.Sprintf("an RSA key of %d bits, too short to count", rsaKey.N.BitLen()), "Make one of 2048 bits.")
	case rsaKey.N.BitLen() < goodRSA:
		return Finding{"DKIM", Doubt, fmt.Sprintf("%s: an RSA key of %d bits", name, rsaKey.N.BitLen()), "Make one of 2048 bits when you next change it."}
	case strings.Contains(":"+tags["t"]+":", ":y:"):
		return Finding{"DKIM", Doubt, name + ": a good key, marked as a test (t=y)", "Take t=y away when the signatures verify."}
	}
	return Finding{"DKIM", Good, fmt.Sprintf("%s: an RSA key of %d bits", name, rsaKey.N.BitLen()), ""}
}

// parseTags reads a tag list (RFC 6376, 3.2).
func parseTags(record string) (map[string]string, error) {
	tags := map[string]string{}
	for _, part := range strings.Split(record, ";") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		name = strings.TrimSpace(name)
		if _, twice := tags[name]; !ok || name == "" || twice {
			return nil, fmt.Errorf("%q is no list of tags such as v=DKIM1; k=rsa; p=…", record)
		}
		tags[name] = strings.TrimSpace(value)
	}
	return tags, nil
}

func (c *Checker) dmarc(ctx context.Context, domain string) Finding {
	const about = "DMARC"
	name := "_dmarc." + domain
	records, err := c.text(ctx, name)
	if err != nil {
		return Finding{about, Doubt, fmt.Sprintf("%s: %v", name, err), "The domain's name servers must answer."}
	}
	records = with(records, "v=DMARC1")
	if len(records) == 0 {
		return Finding{about, Doubt, domain + " has no DMARC record", `Large providers ask for one: begin with a TXT record at ` + name + ` of "v=DMARC1; p=none".`}
	}
	if tags, err := parseTags(records[0]); err != nil || len(records) > 1 || tags["p"] == "" {
		return Finding{about, Bad, fmt.Sprintf("%s: %q is no policy", name, records), `Want one record such as "v=DMARC1; p=none".`}
	}
	return Finding{about, Good, fmt.Sprintf("%q", records[0]), ""}
}
