package mailcheck

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/smtp"
	"time"
)

// TLS is how the smarthost's certificate is judged.
type TLS = *tls.Config

// smarthost finds the addresses of the smarthost and tries TLS with it.
func (c *Checker) smarthost(ctx context.Context, s Sender, conf TLS) ([]net.IP, []Finding) {
	const about = "smarthost"
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	found, err := c.resolver().LookupIPAddr(ctx, s.Host)
	if err != nil {
		return nil, []Finding{{about, Bad, fmt.Sprintf("%s: %v", s.Host, err), "Set smtp_smarthost in alertmanager.yml to a host that exists, with its port."}}
	}
	var ips []net.IP
	for _, a := range found {
		ips = append(ips, a.IP)
	}
	var last error
	for _, ip := range ips {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), s.Port))
		if err != nil {
			last = err
			continue
		}
		return ips, []Finding{c.starttls(conn, s, conf)}
	}
	return ips, []Finding{{about, Bad, fmt.Sprintf("%s:%s: %v", s.Host, s.Port, last), "Does a firewall hold it back? Submission is port 587 or 465; many networks block port 25."}}
}

// starttls speaks SMTP up to TLS and goes.
func (c *Checker) starttls(conn net.Conn, s Sender, conf TLS) Finding {
	const about = "STARTTLS"
	where := s.Host + ":" + s.Port
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return Finding{about, Bad, fmt.Sprintf("%s: %v", where, err), ""}
	}
	const certAdvice = "Renew the smarthost's certificate or name its CA in smtp_tls_config: pages by mail fail until then."
	if s.Implicit {
		secure := tls.Client(conn, conf)
		if err := secure.Handshake(); err != nil {
			return Finding{about, Bad, fmt.Sprintf("%s: TLS from the start: %v", where, err), certAdvice}
		}
		return Finding{about, Good, where + " speaks TLS from the start", ""}
	}
	client, err := smtp.NewClient(conn, s.Host)
	if err != nil {
		return Finding{about, Bad, fmt.Sprintf("%s does not speak SMTP: %v", where, err), "Is it the right port? 587 begins in the clear, 465 with TLS."}
	}
	hello := s.Hello
	if hello == "" {
		hello = "localhost"
	}
	if err := client.Hello(hello); err != nil {
		return Finding{about, Bad, fmt.Sprintf("%s refuses EHLO %s: %v", where, hello, err), "Set smtp_hello in alertmanager.yml to this machine's name."}
	}
	if offered, _ := client.Extension("STARTTLS"); !offered {
		if s.RequireTLS {
			return Finding{about, Bad, where + " does not offer STARTTLS, and smtp_require_tls is set (the default)", "Take a smarthost with STARTTLS. For one on this machine alone, smtp_require_tls: false."}
		}
		return Finding{about, Doubt, where + " does not offer STARTTLS: pages and the password travel in the clear", "All right on this machine; anywhere else take a smarthost with STARTTLS."}
	}
	if err := client.StartTLS(conf); err != nil {
		return Finding{about, Bad, fmt.Sprintf("%s: STARTTLS: %v", where, err), certAdvice}
	}
	_ = client.Quit() // all is known
	return Finding{about, Good, where + " offers STARTTLS with a certificate that holds", ""}
}
