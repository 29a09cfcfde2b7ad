package broker

import (
	"crypto/rand"
	"encoding/hex"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// gate lets clients in. nats-server calls Check for each, from many goroutines.
type gate struct {
	known identities
	own   string // secret of the in-process connection, drawn at each start
	count *metrics
	// admit gives a connection, named by its client's address, a board's allowance.
	admit func(address net.Addr, board string)
	kick  func(connection uint64) // set before the server accepts connections

	mu   sync.Mutex
	live map[string]uint64 // board → its newest connection; may be closed already
}

func newGate(known identities, count *metrics, admit func(address net.Addr, board string)) *gate {
	secret := make([]byte, 32)
	rand.Read(secret) // never fails (crypto/rand)
	return &gate{known: known, own: hex.EncodeToString(secret), count: count, admit: admit, live: map[string]uint64{}}
}

// Check implements server.Authentication.
func (g *gate) Check(c server.ClientAuthentication) bool {
	granted, err := authorize(shown(c), g.known, g.own)
	if err == nil && granted.role == "board" {
		err = g.enter(granted.name, c)
	}
	if err != nil {
		g.count.authentication(err.Error())
		return false
	}
	g.count.authentication(granted.role)
	user := &server.User{Username: granted.role + " " + granted.name, Permissions: granted.permissions}
	if granted.lifetime > 0 {
		user.ConnectionDeadline = time.Now().Add(granted.lifetime)
	}
	c.RegisterUser(user)
	return true
}

func shown(c server.ClientAuthentication) credentials {
	o := c.GetOpts()
	address := c.RemoteAddress()
	return credentials{
		nkey: o.Nkey, signature: o.Sig, nonce: c.GetNonce(), token: o.Token, user: o.Username, password: o.Password,
		// A network client has passed TLS by now; a pipe within the process has not.
		inProcess: address != nil && address.Network() == "pipe" && c.GetTLSConnectionState() == nil,
	}
}

// enter makes the connection the board's only one. It is noted first and the
// key looked up again after, so that a revocation in between finds it.
func (g *gate) enter(board string, c server.ClientAuthentication) error {
	id := c.GetID()
	g.mu.Lock()
	older, had := g.live[board]
	g.live[board] = id
	g.mu.Unlock()
	if had && older != id {
		g.kick(older)
	}
	if b, ok := g.known.BoardOfKey(c.GetOpts().Nkey); !ok || b.Name != board {
		return errUnknownKey
	}
	g.admit(c.RemoteAddress(), board)
	return nil
}

// expel closes the board's connection, if it has one.
func (g *gate) expel(board string) {
	g.mu.Lock()
	id, had := g.live[board]
	delete(g.live, board)
	g.mu.Unlock()
	if had {
		g.kick(id)
	}
}
