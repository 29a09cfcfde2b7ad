package broker

import (
	"crypto/tls"
	"fmt"
	"sync"
	"time"
)

// chain is the server's certificate in force with the CA's behind it. A start
// makes a fresh one, and a collector that runs for years renews it when half of
// its time is over, so that no client ever sees an expired one. The boards' pin
// is of the CA's key and stays. It is safe for concurrent use.
type chain struct {
	ca    *authority
	names []string

	mu      sync.Mutex
	current *tls.Certificate
}

func newChain(ca *authority, names []string) (*chain, error) {
	c := &chain{ca: ca, names: names}
	_, err := c.get(nil)
	return c, err
}

// get is tls.Config.GetCertificate.
func (c *chain) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && time.Until(c.current.Leaf.NotAfter) > leafLifetime/2 {
		return c.current, nil
	}
	fresh, err := c.ca.leaf(c.names)
	if err != nil {
		return nil, fmt.Errorf("renew server certificate: %w", err)
	}
	c.current = &fresh
	return c.current, nil
}
