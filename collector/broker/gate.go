package broker

import (
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// One key in use at two places, as of a cloned disk, has each cut the other's
// connection without end. A board that loses power does so once: its old
// connection is still open when it comes back.
const (
	displacedMax  = 6
	displacedTime = time.Hour
)

// gate lets clients in. nats-server calls Check for each, from many goroutines.
type gate struct {
	known  identities
	own    string        // secret of the in-process connection, drawn at each start
	enrol  time.Duration // how long an enrolment connection lives
	count  *metrics
	panics *panics
	log    *slog.Logger
	// admit gives a connection, named by its address as the server sees it, a
	// board's allowance and place. It returns the client's own address.
	admit func(address net.Addr, board string, cut bool) (from string, err error)
	kick  func(connection uint64) bool // reports whether it was open; set before the server accepts connections

	mu   sync.Mutex
	live map[string]*presence // by board
}

// presence is a board's newest connection and how that came about.
type presence struct {
	id        uint64 // may be closed already; 0 = none
	from      string // the client's address
	displaced []time.Time
	warned    time.Time
}

func newGate(o Options, count *metrics, f *front) *gate {
	secret := make([]byte, 32)
	rand.Read(secret) // never fails (crypto/rand)
	return &gate{known: o.Registry, own: hex.EncodeToString(secret), enrol: enrolTime, count: count, panics: f.panics, log: o.Log, admit: f.admit, live: map[string]*presence{}}
}

// Check implements server.Authentication. nats-server calls it in a goroutine
// of its own, where a panic would end the process: it refuses the client.
func (g *gate) Check(c server.ClientAuthentication) (in bool) {
	defer g.panics.caught("check a client")
	granted, err := g.decide(c)
	if err != nil {
		g.count.authentication(err.Error())
		return false
	}
	g.count.authentication(granted.role)
	user := &server.User{Username: granted.role + " " + granted.name, Permissions: granted.permissions}
	if granted.role == "enrolment" {
		user.ConnectionDeadline = time.Now().Add(g.enrol)
	}
	c.RegisterUser(user)
	return true
}

// decide finds the client's permissions, and makes a board's connection its only one.
func (g *gate) decide(c server.ClientAuthentication) (grant, error) {
	show := shown(c)
	if show.address == nil {
		return grant{}, errGone
	}
	granted, err := authorize(show, g.known, g.own)
	if err == nil && granted.role == "board" {
		err = g.enter(granted.name, c.GetID(), show)
	}
	return granted, err
}

// shown asks for everything once: the connection may end at any moment, by a
// newer one of the same board too, and from then on has no address.
func shown(c server.ClientAuthentication) credentials {
	o := c.GetOpts()
	address := c.RemoteAddress()
	return credentials{
		nkey: o.Nkey, signature: o.Sig, nonce: c.GetNonce(), token: o.Token, user: o.Username, password: o.Password,
		address: address,
		// A network client has passed TLS by now; a pipe within the process has not.
		inProcess: address != nil && address.Network() == "pipe" && c.GetTLSConnectionState() == nil,
	}
}

// enter makes the connection the board's only one. It is noted first and the
// key looked up again after, so that a revocation in between finds it.
func (g *gate) enter(board string, id uint64, c credentials) error {
	g.mu.Lock()
	p := g.live[board]
	if p == nil {
		p = &presence{}
		g.live[board] = p
	}
	older, before := p.id, p.from
	p.id = id
	g.mu.Unlock()
	cut := older != 0 && older != id && g.kick(older)
	if b, ok := g.known.BoardOfKey(c.nkey); !ok || b.Name != board {
		return errUnknownKey
	}
	if cut {
		g.count.displaced.Inc()
	}
	from, err := g.admit(c.address, board, cut)
	if err != nil {
		return err
	}
	if g.arrived(p, from, cut) {
		g.log.Warn("a board's key is used at two places, which cut each other off: a cloned disk? Enrol the other one with a token of its own, from an empty state directory",
			"board", board, "from", from, "before", before)
	}
	return nil
}

// arrived notes where the board is now. It reports true, once in displacedTime,
// when too many of its connections have cut a live one.
func (g *gate) arrived(p *presence, from string, cut bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	p.from = from
	if !cut {
		return false
	}
	now := time.Now()
	p.displaced = append(slices.DeleteFunc(p.displaced, func(at time.Time) bool { return now.Sub(at) > displacedTime }), now)
	if len(p.displaced) < displacedMax || now.Sub(p.warned) < displacedTime {
		return false
	}
	p.displaced, p.warned = nil, now
	return true
}

// expel closes the board's connection, if it has one.
func (g *gate) expel(board string) {
	g.mu.Lock()
	var id uint64
	if p := g.live[board]; p != nil {
		id, p.id = p.id, 0
	}
	g.mu.Unlock()
	if id != 0 {
		g.kick(id)
	}
}
