package sensor

import (
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

// connectTime bounds one attempt to connect, from the name's first address to
// the end of the login.
const connectTime = 5 * time.Second

// Dialing returns the options with which a client reaches a collector within a time. Addresses of
// both families race each other (RFC 8305), so that a name whose AAAA or A record is dead costs a
// third of a second, not a time-out; the client library tries them one after the other. The library
// also has no limit of its own on the TLS handshake of wss://.
func Dialing(within time.Duration) []nats.Option {
	dial := func(network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{Timeout: within}).Dial(network, address)
		if dns, failed := errors.AsType[*net.DNSError](err); failed {
			return nil, lookupError{dns}
		}
		if err != nil {
			return nil, err
		}
		return patientConn{prompt(c)}, c.SetDeadline(time.Now().Add(within)) // the library lifts it when it is connected
	}
	return []nats.Option{nats.SkipHostLookup(), nats.SetCustomDialer(dialer(dial)), nats.Timeout(within)}
}

// patientConn is a connection on which the last message of a server that hangs up can still be
// read. The library writes its login in pieces and takes an error on the last for the whole answer.
// But the server's message, such as that it does not know the key, is waiting to be read, and
// behind it the same end of the connection.
type patientConn struct{ net.Conn }

func (p patientConn) Write(b []byte) (int, error) {
	n, err := p.Conn.Write(b)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return len(b), nil
	}
	return n, err
}

// lookupError keeps the DNS server's trouble apart from the collector's: the
// library takes all that says "connection refused" for the latter.
type lookupError struct{ dns *net.DNSError }

func (e lookupError) Error() string { return "look up " + e.dns.Name }
func (e lookupError) Unwrap() error { return e.dns }
