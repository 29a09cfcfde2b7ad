package broker

import (
	"container/list"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"bramble/collector/broker/protocol"
)

const (
	// loginTime is how long a client may take to log in: the handshake of a board that reconnects
	// beside 10,000 others (7 s of one core), and two round trips.
	loginTime = 12 * time.Second
	// pingEvery is how long a board may be silent until it is asked for a sign of life, and
	// maxPings how many may stay unanswered: as nats-server has them (const.go,
	// DEFAULT_PING_INTERVAL, DEFAULT_PING_MAX_OUT).
	pingEvery = 2 * time.Minute
	maxPings  = 2
	// maxPending bounds the bytes that wait for a client that does not read. A day's acks have less.
	maxPending = 256 << 10
	// lingerTime is how long a client that is sent away may take to read why.
	lingerTime = time.Second
)

// client is one connection, of a board or of a stranger. One goroutine reads; a second one writes
// while there is something to write, so that an idle board has one.
type client struct {
	*net.TCPConn
	front  *front
	from   string // its address
	nonce  string // to be signed with the board's key
	link   link
	alarm  *time.Timer // ends a login, an enrolment, a linger; asks a silent board for a sign of life
	ending sync.Once   // Close
	done   chan struct{}

	metered bool // Read takes the allowance

	// The reader's own.
	budget  *rate.Limiter
	rest    []byte // of an operation that has not arrived as a whole
	verbose bool
	granted grant // the zero value before a login
	asked   int   // requests of an enrolment

	// Guarded by the front's mutex.
	board bool          // it has a board's place
	place *list.Element // among the strangers

	mu         sync.Mutex
	logged     string // role, empty before a login
	subs       []subscription
	out        []byte // to be written
	writing    bool   // by a goroutine
	dismissed  bool   // it has been told why, and nothing more is taken
	closed     bool
	unanswered int    // pings
	answers    string // of an enrolment: the subject of its key's answers, empty before it asks
	inbox      string // of an enrolment: the subject by which it knows them
}

// subscription is a client's number for a subject.
type subscription struct {
	subject, sid string
	delivered    int
	max          int // messages after which it ends, 0: none
}

// Close ends the connection and gives its place back, once. It waits for no goroutine. It reports
// no error: the connection may have ended by itself.
func (c *client) Close() error {
	c.end()
	return nil
}

// end is Close. It reports whether the connection was open.
func (c *client) end() (was bool) {
	c.ending.Do(func() {
		was = true
		c.mu.Lock()
		c.closed, c.out = true, nil
		if c.alarm != nil {
			c.alarm.Stop()
		}
		c.mu.Unlock()
		_ = c.TCPConn.Close() // the socket itself: TLS might wait for a writer
		close(c.done)
		c.front.remove(c)
	})
	return was
}

// greeting is the INFO with which a server begins: no more than a client needs. Boards would try
// any address in it, and strangers would learn of versions.
func (c *client) greeting() []byte {
	nonce := make([]byte, 16)
	rand.Read(nonce) // never fails (crypto/rand)
	c.nonce = base64.RawURLEncoding.EncodeToString(nonce)
	return fmt.Appendf(nil, `INFO {"server_id":"bramble","version":"","proto":1,"headers":false,"auth_required":true,"tls_required":true,"max_payload":%d,"nonce":%q} `+"\r\n",
		maxPayload, c.nonce)
}

// serveNATS greets, sets up TLS and starts to read.
func (c *client) serveNATS() {
	defer c.front.panics.caught("set up a connection")
	l, err := newTLSLink(c, c.front.tls)
	if err != nil {
		c.Close()
		return
	}
	c.begin(l)
}

// begin starts the reader, in a goroutine of its own: the handshake has grown the stack of this one.
func (c *client) begin(l link) {
	c.mu.Lock()
	c.link = l
	c.mu.Unlock()
	c.front.work.Go(c.read)
}

// read takes the client's bytes until the connection ends.
func (c *client) read() {
	defer c.forget()
	defer c.front.panics.caught("serve a client")
	_ = c.link.receive(c.take) // its end is the client's, or has been said
}

// forget is the end of the client's reader.
func (c *client) forget() {
	c.Close()
	for _, subject := range c.granted.hears {
		c.front.unsubscribe(c, subject)
	}
	switch c.granted.role {
	case roleBoard:
		c.front.gate.left(c.granted.name, c)
	case roleEnrolment:
		c.front.unsubscribe(c, c.answers) // which this goroutine alone sets
	}
}

var errAway = errors.New("the connection has ended")

// Read reads from the socket, no faster than a client of the websocket's door may send: frames without a
// payload, which the library handles, cost as much as others.
func (c *client) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b[:min(len(b), pieceSize)])
	if c.metered && !c.pay(n) {
		return 0, errAway
	}
	return n, err
}

// pay sleeps until the client may have sent n bytes more. It reports false when it goes before.
func (c *client) pay(n int) bool { return c.wait(debt(c.budget, n)) }

// take handles bytes as far as they are whole operations.
func (c *client) take(b []byte) error {
	c.mu.Lock()
	c.unanswered = 0
	dismissed, board := c.dismissed, c.logged == roleBoard
	c.mu.Unlock()
	if dismissed {
		return nil // until it goes, or the alarm
	}
	if board {
		c.alarm.Reset(pingEvery)
	}
	if len(c.rest) > 0 {
		c.rest = append(c.rest, b...)
		b = c.rest
	}
	n, err := c.operations(b)
	if c.rest = append(c.rest[:0], b[n:]...); len(c.rest) == 0 {
		c.rest = nil // an idle client holds no buffer
	}
	return err
}

// debt takes n bytes of an allowance, lent where there are fewer, and returns how long to wait until they
// are paid back. n is at most the allowance's burst.
func debt(allowance *rate.Limiter, n int) time.Duration {
	return allowance.ReserveN(time.Now(), n).Delay()
}

// wait sleeps until the client's allowance has paid. It reports false when the client goes before.
func (c *client) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.done:
		return false
	}
}

// operations handles the whole operations of b and returns how many bytes they are.
func (c *client) operations(b []byte) (n int, err error) {
	for n < len(b) {
		if c.granted.role == "" && b[n] != 'C' && b[n] != 'c' {
			return len(b), c.dismiss("protocol", "Authorization Violation")
		}
		op, length, err := protocol.Next(b[n:], maxPayload)
		if err != nil {
			return len(b), c.dismiss("protocol", err.Error())
		}
		if length == 0 {
			break
		}
		n += length
		if err := c.operate(op); err != nil || c.isDismissed() {
			return len(b), err
		}
	}
	return n, nil
}

// operate does an operation of the client. Its error ends the connection without a word.
func (c *client) operate(op protocol.Operation) error {
	switch op.Verb {
	case protocol.Connect:
		return c.connect(op.Payload)
	case protocol.Ping:
		c.say("PONG\r\n")
	case protocol.Publish:
		if string(op.Subject) != c.granted.publish {
			c.refuse("publish", fmt.Sprintf("Permissions Violation for Publish to %q", op.Subject))
			return nil
		}
		c.confirm()
		if c.granted.role == roleEnrolment && !c.request(op.Payload) {
			return nil
		}
		return c.front.publish(c.granted.publish, op.Payload)
	case protocol.Subscribe:
		c.subscribe(op)
	case protocol.Unsubscribe:
		c.unsubscribe(op)
		c.confirm()
	case protocol.Pong: // any byte is a sign of life
	}
	return nil
}

// login is the JSON of CONNECT, as far as it matters here.
type login struct {
	Verbose      bool
	NKey         string `json:"nkey"`
	Signature    string `json:"sig"`
	Token        string `json:"auth_token"`
	NoResponders bool   `json:"no_responders"`
}

// connect lets the client in. One that is in already may say it again, as the same.
func (c *client) connect(text []byte) error {
	l := login{Verbose: true} // as the protocol has it
	if json.Unmarshal(text, &l) != nil {
		return c.dismiss("protocol", string(protocol.ErrUnknown))
	}
	granted, err := c.front.gate.check(c, credentials{nkey: l.NKey, signature: l.Signature, nonce: []byte(c.nonce), token: l.Token})
	switch {
	case errors.Is(err, errFull):
		return err // rather than an answer that its key is refused
	case err != nil || c.granted.role != "" && c.granted != granted:
		return c.dismiss("login", "Authorization Violation")
	case l.NoResponders:
		return c.dismiss("login", "no responders requires headers support")
	}
	c.granted, c.verbose = granted, l.Verbose
	c.mu.Lock()
	c.logged = granted.role
	c.mu.Unlock()
	switch granted.role {
	case roleBoard:
		c.alarm.Reset(pingEvery)
	case roleEnrolment:
		c.alarm.Reset(c.front.gate.enrol)
	}
	c.confirm()
	return nil
}

// confirm answers +OK to a client that wants it.
func (c *client) confirm() {
	if c.verbose {
		c.say("+OK\r\n")
	}
}

func (c *client) subscribe(op protocol.Operation) {
	subject := string(op.Subject)
	switch {
	case op.Queue != nil:
		c.refuse("subscribe", fmt.Sprintf("Permissions Violation for Subscription to %q using queue %q", subject, op.Queue))
		return
	case !slices.Contains(c.granted.hears[:], subject):
		c.refuse("subscribe", fmt.Sprintf("Permissions Violation for Subscription to %q", subject))
		return
	}
	c.mu.Lock()
	known := slices.ContainsFunc(c.subs, func(s subscription) bool { return s.sid == string(op.SID) })
	full := !known && len(c.subs) >= maxSubs
	if !known && !full {
		c.subs = append(c.subs, subscription{subject: subject, sid: string(op.SID)})
	}
	c.mu.Unlock()
	if full {
		c.refuse("subscribe", "maximum subscriptions exceeded")
		return
	}
	if c.granted.role == roleBoard {
		c.front.subscribe(c, subject)
	}
	c.confirm()
}

func (c *client) unsubscribe(op protocol.Operation) {
	c.mu.Lock()
	i := slices.IndexFunc(c.subs, func(s subscription) bool { return s.sid == string(op.SID) })
	if i < 0 {
		c.mu.Unlock()
		return
	}
	subject := c.subs[i].subject
	if op.Max > c.subs[i].delivered {
		c.subs[i].max = op.Max
	} else {
		c.subs = slices.Delete(c.subs, i, i+1)
	}
	heard := slices.ContainsFunc(c.subs, func(s subscription) bool { return s.subject == subject })
	c.mu.Unlock()
	if !heard {
		c.front.unsubscribe(c, subject)
	}
}

// deliver queues a message for the client's subscriptions to its subject.
func (c *client) deliver(subject string, payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if subject == c.answers {
		subject = c.inbox
	}
	for i := range c.subs {
		if s := &c.subs[i]; s.subject == subject {
			s.delivered++
			c.out = protocol.AppendMessage(c.out, subject, s.sid, payload)
		}
	}
	c.subs = slices.DeleteFunc(c.subs, func(s subscription) bool { return s.max > 0 && s.delivered >= s.max })
	c.flush()
}

// say queues text for the client.
func (c *client) say(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(c.out, text...)
	c.flush()
}

// refuse tells the client that one operation was not done.
func (c *client) refuse(kind, reason string) {
	c.note(kind, reason)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = protocol.AppendError(c.out, reason)
	c.flush()
}

// dismiss tells the client why it is sent away. The connection ends when it has been written, and
// the client has read it or lingers; until then its bytes are read and dropped, since a reset would
// take the reason from the client's buffer.
func (c *client) dismiss(kind, reason string) error {
	c.note(kind, reason)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dismissed || c.closed {
		return nil
	}
	if c.link == nil {
		_ = c.TCPConn.Close() // nothing can be said before TLS; the handshake fails
		return nil
	}
	c.dismissed = true
	c.out = protocol.AppendError(c.out, reason)
	c.flush()
	return nil
}

func (c *client) isDismissed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dismissed
}

// note counts a refusal and logs it, as far as the log's allowance goes.
func (c *client) note(kind, reason string) {
	c.front.count.operation(kind)
	name := c.granted.name
	if name == "" {
		name = "a stranger"
	}
	c.front.log.warn("a client of the boards' door is refused", "client", name, "from", c.from, "reason", strings.ToValidUTF8(reason, "?"))
}

// flush starts a writer where there is something to write, and none. A client that does not read is
// cut off. The caller holds mu.
func (c *client) flush() {
	switch {
	case c.closed:
		c.out = nil
	case len(c.out) > maxPending:
		c.out = nil
		c.front.count.slow.Inc()
		_ = c.TCPConn.Close() // the reader fails
	case len(c.out) > 0 && !c.writing:
		c.writing = true
		c.front.work.Go(c.write) // the reader, which is counted there, has not ended
	}
}

// write sends the queue until there is nothing more.
func (c *client) write() {
	defer c.front.panics.caught("write to a client")
	for {
		c.mu.Lock()
		b, last := c.out, c.dismissed
		c.out = nil
		if len(b) == 0 || c.closed {
			c.writing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		if c.link.send(b) != nil {
			c.Close()
			return
		}
		if last {
			c.link.finish()
			c.alarm.Reset(lingerTime)
		}
	}
}

// alarmed is called when a time has passed: the login's, the enrolment's, a silent board's, or that
// of a client which was sent away.
func (c *client) alarmed() {
	defer c.front.panics.caught("time a client out")
	c.mu.Lock()
	role, dismissed, silent := c.logged, c.dismissed, c.unanswered >= maxPings
	if c.closed {
		c.mu.Unlock()
		return
	}
	if role == roleBoard && !silent && !dismissed {
		c.unanswered++
		c.out = append(c.out, "PING\r\n"...)
		c.flush()
		c.alarm.Reset(pingEvery)
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	switch {
	case dismissed:
		c.Close()
	case role == "":
		_ = c.dismiss("login", "Authentication Timeout")
		c.alarm.Reset(lingerTime) // it may not read
	case role == roleEnrolment:
		_ = c.dismiss("login", "User Authentication Expired")
		c.alarm.Reset(lingerTime)
	default:
		_ = c.dismiss("stale", "Stale Connection")
		c.alarm.Reset(lingerTime)
	}
}
