package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"golang.org/x/time/rate"

	"bramble/collector/registry"
	"bramble/pisensor/report"
)

// Enrolment requests that one token may make: a thousand boards that start at once get through, and
// ten thousand within half a minute. What a token can write is bounded by the registry: a rack's
// token makes as many boards as it has names, a board's own changes its key some times an hour. So
// this bounds the processor's work for a flood, which maxRequests bounds for each connection.
const (
	enrolRate  = 400
	enrolBurst = 1000
)

// maxRequests bounds the requests of one connection: a sensor asks once and, unanswered, six times.
const maxRequests = 16

// enrolQueue bounds the requests that wait; boards ask again for those beyond.
const enrolQueue = 4096

// registrar answers enrolment requests, one after the other.
type registrar struct {
	registry *registry.Registry
	nc       *nats.Conn
	count    *metrics
	panics   *panics
	log      *slog.Logger
	expel    func(board string)
	lines    *rate.Limiter            // limits the log's lines about refusals: a board in a loop causes them
	buckets  map[string]*rate.Limiter // by token id: as many as there are tokens
}

// run answers requests until the channel is closed or ctx is done.
func (g *registrar) run(ctx context.Context, requests <-chan *nats.Msg) {
	for {
		select {
		case m, ok := <-requests:
			if !ok {
				return
			}
			g.answer(ctx, m.Data)
		case <-ctx.Done():
			return
		}
	}
}

func (g *registrar) answer(ctx context.Context, data []byte) {
	defer g.panics.caught("answer an enrolment")
	q, err := report.DecodeEnrolRequest(data)
	if err != nil || !nkeys.IsValidPublicUserKey(q.Key) { // no subject leads to such a sender
		g.count.enrolment("malformed")
		return
	}
	id, ok := g.registry.TokenID(q.Token)
	if !ok {
		g.count.enrolment("unknown_token") // the sender is unknown, so nobody gets an answer
		return
	}
	if !g.allow(id) {
		g.count.enrolment("throttled")
		return
	}
	b, err := json.Marshal(g.enrol(ctx, id, q))
	if err == nil {
		err = g.nc.Publish(report.EnrolAnswerSubject(id, q.Key), b)
	}
	if err != nil {
		g.log.Error("answer enrolment", "token", id, "err", err)
	}
}

func (g *registrar) enrol(ctx context.Context, id string, q report.EnrolRequest) report.EnrolAnswer {
	done, err := g.registry.Enrol(registry.WithActor(ctx, "token "+id), q)
	switch {
	case err != nil:
		g.count.enrolment("refused")
		if g.lines.Allow() {
			g.log.Warn("enrolment refused", "token", id, "err", err)
		} else {
			g.count.suppressed.Inc()
		}
		return report.EnrolAnswer{Key: q.Key, Error: err.Error()}
	case done.Repeated:
		g.count.enrolment("repeated")
	case done.Replaced != "":
		g.expel(done.Board) // a connection with the key before
		g.count.enrolment("replaced")
		g.log.Warn("board has another key: it was set up anew, or its token is with somebody else", "board", done.Board, "token", id, "key", q.Key, "before", done.Replaced)
	default:
		g.count.enrolment("enrolled")
		g.log.Info("board enrolled", "board", done.Board, "token", id, "key", q.Key)
	}
	return report.EnrolAnswer{Key: q.Key, Board: done.Board}
}

func (g *registrar) allow(id string) bool {
	b := g.buckets[id]
	if b == nil {
		b = rate.NewLimiter(enrolRate, enrolBurst)
		g.buckets[id] = b
	}
	return b.Allow()
}

// request lets the connection hear the answers for the key that its first enrolment request names.
// Another key needs another connection: so the holders of one token never hear each other. It reports
// whether the request goes on.
func (c *client) request(payload []byte) bool {
	if c.asked++; c.asked > maxRequests {
		c.front.count.enrolment("throttled")
		return false
	}
	q, err := report.DecodeEnrolRequest(payload)
	if err != nil || !nkeys.IsValidPublicUserKey(q.Key) {
		return true // the registrar counts it
	}
	answers := report.EnrolAnswerSubject(c.granted.name, q.Key)
	c.mu.Lock()
	first := c.answers == ""
	if first {
		c.answers, c.inbox = answers, report.EnrolInbox(c.granted.name)
	}
	same := c.answers == answers
	c.mu.Unlock()
	switch {
	case first:
		c.front.subscribe(c, answers)
	case !same:
		c.refuse("publish", fmt.Sprintf("Permissions Violation for Publish to %q: one key a connection", report.EnrolSubject))
	}
	return same
}
