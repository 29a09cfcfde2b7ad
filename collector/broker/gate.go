package broker

import (
	"log/slog"
	"slices"
	"sync"
	"time"
)

// One key in use at two places, as of a cloned disk, has each cut the other's
// connection without end. A board that loses power does so once: its old
// connection is still open when it comes back.
const (
	displacedMax  = 6
	displacedTime = time.Hour
)

// gate lets clients in and knows each board's connection. It is safe for concurrent use.
type gate struct {
	known identities
	enrol time.Duration // how long an enrolment's connection lives
	count *metrics
	log   *slog.Logger
	// admit gives a client a board's allowance and place. cut says that an older connection of the
	// board has ended for it. It reports false where there is no place.
	admit func(c *client, board string, cut bool) bool

	mu   sync.Mutex
	live map[string]*presence // by board
}

// presence is a board's newest connection and how that came about.
type presence struct {
	client    *client // may be closed already; nil: none
	from      string  // the client's address
	displaced []time.Time
	warned    time.Time
}

func newGate(o Options, f *front) *gate {
	return &gate{known: o.Registry, enrol: enrolTime, count: f.count, log: o.Log, admit: f.admit, live: map[string]*presence{}}
}

// check finds the client's permissions, and makes a board's connection its only one.
func (g *gate) check(c *client, show credentials) (grant, error) {
	granted, err := authorize(show, g.known)
	if err == nil && granted.role == roleBoard {
		err = g.enter(granted.name, c, show.nkey)
	}
	if err != nil {
		g.count.authentication(err.Error())
		return grant{}, err
	}
	g.count.authentication(granted.role)
	return granted, nil
}

// enter makes the connection the board's only one. It is noted first and the
// key looked up again after, so that a revocation in between finds it.
func (g *gate) enter(board string, c *client, key string) error {
	g.mu.Lock()
	p := g.live[board]
	if p == nil {
		p = &presence{}
		g.live[board] = p
	}
	older, before := p.client, p.from
	p.client = c
	g.mu.Unlock()
	cut := older != nil && older != c && older.end()
	if b, ok := g.known.BoardOfKey(key); !ok || b.Name != board {
		g.left(board, c)
		return errUnknownKey
	}
	if cut {
		g.count.displaced.Inc()
	}
	if !g.admit(c, board, cut) {
		g.left(board, c)
		return errFull
	}
	if g.arrived(p, c.from, cut) {
		g.log.Warn("a board's key is used at two places, which cut each other off: a cloned disk? Enrol the other one with a token of its own, from an empty state directory",
			"board", board, "from", c.from, "before", before)
	}
	return nil
}

// left forgets a board's connection that has ended, or was not let in.
func (g *gate) left(board string, c *client) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.live[board]; p != nil && p.client == c {
		p.client = nil
	}
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
	var c *client
	if p := g.live[board]; p != nil {
		c, p.client = p.client, nil
	}
	g.mu.Unlock()
	if c != nil {
		c.Close()
	}
}
