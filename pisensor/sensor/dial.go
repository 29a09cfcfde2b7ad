package sensor

import (
	"net"
	"time"

	"github.com/nats-io/nats.go"
)

// connectTime bounds one attempt to connect, from the name's first address to
// the end of the login.
const connectTime = 5 * time.Second

// Dialing returns the options with which a client reaches a collector within a
// time. Addresses of both families race each other (RFC 8305), so that a name
// whose AAAA or A record is dead costs a third of a second, not a time-out; the
// client library tries them one after the other. Nor has the library a limit of
// its own on the TLS handshake of wss://.
func Dialing(within time.Duration) []nats.Option {
	dial := func(network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{Timeout: within}).Dial(network, address)
		if err != nil {
			return nil, err
		}
		return c, c.SetDeadline(time.Now().Add(within)) // the library lifts it when it is connected
	}
	return []nats.Option{nats.SkipHostLookup(), nats.SetCustomDialer(dialer(dial)), nats.Timeout(within)}
}
