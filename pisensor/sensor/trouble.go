package sensor

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"

	"bramble/pisensor/report"
)

// Explain says in one line why a collector cannot be reached, with the next step. The text is the same
// for the same cause: ports, which differ from attempt to attempt, are left out.
func Explain(err error) string {
	var dns *net.DNSError
	var record tls.RecordHeaderError
	var number syscall.Errno
	switch {
	case errors.Is(err, report.ErrPin):
		return explainPin(err)
	case errors.As(err, &record):
		return explainRecord(record.RecordHeader[:])
	case errors.Is(err, nats.ErrSecureConnWanted):
		return "the server there offers no TLS, so it is not the pinned collector: check the URL and what stands between"
	case errors.Is(err, nats.ErrNkeysNotSupported):
		return "the NATS server there is no collector: check the URL"
	case errors.Is(err, nats.ErrNoInfoReceived), strings.Contains(err.Error(), "invalid websocket connection"), strings.Contains(err.Error(), "malformed HTTP"):
		return "what answers there is no collector: check the URL's port, and that wss:// goes to the address of nats_websocket, past every proxy that ends TLS"
	case errors.As(err, &dns):
		return explainLookup(dns)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, nats.ErrTimeout), isTimeout(err):
		return "no collector answers there in time: check the URL (nats:// goes to the address of nats, wss:// to that of nats_websocket), the firewall and that the collector runs"
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, syscall.ECONNREFUSED):
		return "no collector answers there (connection refused): check the URL, the network and that the collector runs"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the connection was cut: the collector stops, or something between lets no TLS through"
	case errors.As(err, &number):
		return fmt.Sprintf("no way there (%v): check the URL and the network", number)
	}
	return err.Error()
}

// explainPin names the pin that is wanted and the one that was seen.
func explainPin(err error) string {
	text := err.Error()
	return text[max(0, strings.Index(text, report.ErrPin.Error())):] +
		": check the URL; if the collector was set up anew, restore its ca.key and ca.crt from a backup, or enrol this board again with a token of the new one; else somebody is in between"
}

// explainLookup leaves out the ports that the text of a DNS error has.
func explainLookup(dns *net.DNSError) string {
	switch {
	case dns.IsNotFound:
		return fmt.Sprintf("there is no address for the name %s: check the URL and the board's DNS server", dns.Name)
	case dns.IsTimeout:
		return fmt.Sprintf("no DNS server says where %s is: none answers; check /etc/resolv.conf and the network", dns.Name)
	}
	return fmt.Sprintf("no DNS server says where %s is: none can be asked; check /etc/resolv.conf and the network", dns.Name)
}

// explainRecord names the protocol of a server that answered without TLS.
func explainRecord(header []byte) string {
	switch {
	case bytes.HasPrefix(header, []byte("INFO ")):
		return "a NATS server answers there, which is no place for wss://: use nats://, or the address of nats_websocket"
	case bytes.HasPrefix(header, []byte("HTTP/")):
		return "plain HTTP answers there, without TLS: use the address of nats_websocket"
	}
	return "what answers there speaks no TLS, so it is not the pinned collector: check the URL"
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// describe is Explain for a board that is enrolled.
func describe(err error) string {
	if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked) {
		return "the collector does not accept this board's key: it was revoked, or another machine enrolled with the board's token; `pisensor enrol URL TOKEN` with the board's token brings it back (`collector board token NAME` makes one)"
	}
	return Explain(err)
}
