package alerting

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting/database"
)

// message is one page on its way to one integration.
type message struct {
	id, incident          string
	receiver, integration string
	idx                   int
	groupKey              string
	reason                notify.NotifyReason
	payload               []byte
	createdAt, readingAt  int64
	attempts              int
	nextAt                int64 // Unix milliseconds; not to be tried before
	// refused says that the last try was answered with "never" (4xx), retryAfter for how long that answer put the page off.
	refused    bool
	retryAfter time.Duration

	// way, sentAt and drew are of the last try: how the reading came to the page, when the integration was asked, in Unix milliseconds,
	// and for how long it drew the picture.
	way    *pageWay
	sentAt int64
	drew   time.Duration

	inFlight  bool
	triedAt   int64 // when it began to fly last, Unix milliseconds
	recording bool  // answered; what came of it is being recorded
	done      bool
	// cancelled messages are on their way and are not to be tried again.
	cancelled bool
}

// lane names the integration: lanes do not wait for each other.
func (l *message) lane() string { return laneName(l.receiver, l.integration, l.idx) }

func laneName(receiver, integration string, idx int) string {
	return fmt.Sprintf("%s/%s/%d", receiver, integration, idx)
}

// insert writes a message into the journal, as "waiting" or as "bundled".
func (l *message) insert(ctx context.Context, db database.Querier, state string) error {
	_, err := db.ExecContext(ctx, `INSERT INTO page
		(id, incident, receiver, integration, idx, group_key, reason, payload, created_at, reading_at, state, next_at)
		VALUES (?,?,?,?,?,?,?,?,?,?,?,?)`,
		l.id, l.incident, l.receiver, l.integration, l.idx, l.groupKey, int(l.reason), string(l.payload), l.createdAt, l.readingAt, state, l.nextAt)
	if err != nil {
		return fmt.Errorf("write page %s: %w", l.id, err)
	}
	return nil
}

// waitingMessages reads the pages that no provider has accepted yet, the oldest first.
func waitingMessages(ctx context.Context, db database.Querier) ([]*message, error) {
	rows, err := db.QueryContext(ctx, `SELECT id, incident, receiver, integration, idx, group_key, reason, payload, created_at, reading_at, attempts, next_at
		FROM page WHERE state = 'waiting' ORDER BY seq`)
	if err != nil {
		return nil, fmt.Errorf("read waiting pages: %w", err)
	}
	defer rows.Close()
	var out []*message
	for rows.Next() {
		var (
			l       message
			reason  int
			payload string
		)
		err := rows.Scan(&l.id, &l.incident, &l.receiver, &l.integration, &l.idx, &l.groupKey, &reason, &payload, &l.createdAt, &l.readingAt, &l.attempts, &l.nextAt)
		if err != nil {
			return nil, fmt.Errorf("read waiting page: %w", err)
		}
		l.reason, l.payload = notify.NotifyReason(reason), []byte(payload)
		l.nextAt = min(l.nextAt, time.Now().Add(maxBackoff).UnixMilli()) // the clock may have been set back
		out = append(out, &l)
	}
	return out, rows.Err()
}

// laneWidth is how many pages of one integration may be on their way at once, so that one that hangs does not hold up
// the pages of other incidents to the same provider.
const laneWidth = 8

// outbox holds the pages that wait, in the order of the journal.
type outbox struct {
	wake chan struct{}

	mu    sync.Mutex
	lanes map[string][]*message
}

func newOutbox() *outbox {
	return &outbox{wake: make(chan struct{}, 1), lanes: map[string][]*message{}}
}

func (m *outbox) add(messages []*message) {
	if len(messages) == 0 {
		return
	}
	m.mu.Lock()
	for _, l := range messages {
		for _, earlier := range m.lanes[l.lane()] { // a group's messages leave in order, so its next one waits for them
			if earlier.groupKey == l.groupKey {
				earlier.hurry(time.Now().UnixMilli())
			}
		}
		m.lanes[l.lane()] = append(m.lanes[l.lane()], l)
	}
	m.mu.Unlock()
	m.signal()
}

// hurry has the messages that wait for another try, and that which selects, tried now: their receiver may take them.
func (m *outbox) hurry(which func(*message) bool) {
	now := time.Now().UnixMilli()
	m.mu.Lock()
	for _, lane := range m.lanes {
		for _, l := range lane {
			if which(l) {
				l.hurry(now)
			}
		}
	}
	m.mu.Unlock()
	m.signal()
}

// hurry brings the next try of a message that was refused forward, but for what the provider asked for by Retry-After. The
// outbox's mu guards it.
func (l *message) hurry(now int64) {
	if !l.inFlight && l.refused {
		l.nextAt = min(l.nextAt, max(now, l.triedAt+max(minBackoff, l.retryAfter).Milliseconds()))
	}
}

func (m *outbox) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// cancel takes messages out; those on their way are not tried again.
func (m *outbox) cancel(which func(*message) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, lane := range m.lanes {
		for _, l := range lane {
			if which(l) {
				l.cancelled, l.done = true, !l.inFlight
			}
		}
	}
}

// next returns the messages to send now, marked as in flight, and when to look again. Pages of one group leave in order:
// a resolve must not overtake its alert.
func (m *outbox) next(now time.Time) (out []*message, again time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	again = time.Minute
	for name, lane := range m.lanes {
		left := lane[:0]
		inFlight, busy := countInFlight(lane), map[string]bool{}
		for _, l := range lane {
			if l.done {
				continue
			}
			left = append(left, l)
			first := !busy[l.groupKey]
			busy[l.groupKey] = true
			if l.inFlight || !first || inFlight >= laneWidth {
				continue
			}
			if wait := time.Duration(l.nextAt-now.UnixMilli()) * time.Millisecond; wait > 0 {
				again = min(again, wait)
				continue
			}
			l.inFlight, l.triedAt = true, now.UnixMilli()
			inFlight++
			out = append(out, l)
		}
		clear(lane[len(left):])
		m.lanes[name] = left
		if len(left) == 0 {
			delete(m.lanes, name)
		}
	}
	return out, again
}

func countInFlight(lane []*message) (n int) {
	for _, l := range lane {
		if l.inFlight && !l.recording && !l.done {
			n++
		}
	}
	return n
}

// recordOutcome frees a message's place in its lane while its outcome is recorded; its group still waits.
func (m *outbox) recordOutcome(l *message) {
	m.mu.Lock()
	l.recording = true
	m.mu.Unlock()
	m.signal()
}

// settle takes a message back after a try: gone for good, or to be tried again at its nextAt.
func (m *outbox) settle(l *message, gone bool) {
	m.mu.Lock()
	l.inFlight, l.recording, l.done = false, false, gone || l.cancelled
	m.mu.Unlock()
	m.signal()
}

// isCancelled reports whether a message on its way was cancelled.
func (m *outbox) isCancelled(l *message) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return l.cancelled
}

// shift moves the times of what waits, after the wall clock was set. What was written since it was set has the new time
// already, so nothing is put off by more than a wait for the next try.
func (m *outbox) shift(jump int64) {
	now := time.Now().UnixMilli()
	m.mu.Lock()
	for _, lane := range m.lanes {
		for _, l := range lane {
			if l.inFlight {
				continue
			}
			l.nextAt = min(l.nextAt+jump, now+maxBackoff.Milliseconds())
			if l.attempts == 0 {
				l.nextAt = min(l.nextAt, now)
			}
			l.createdAt = min(l.createdAt+jump, now)
		}
	}
	m.mu.Unlock()
	m.signal()
}

// waiting counts the messages that no provider has accepted.
func (m *outbox) waiting() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, lane := range m.lanes {
		for _, l := range lane {
			if !l.done {
				n++
			}
		}
	}
	return n
}

// brokenAfter is how long a receiver may fail before it counts as broken: several tries.
const brokenAfter = time.Minute

// laneHealth is how the last page to an integration fared.
type laneHealth struct {
	failing time.Time // since when, zero where it is well
	failed  bool      // a page was given up, or refused several times
	answer  string
}

// health remembers it for every integration. It is safe for concurrent use.
type health struct {
	mu    sync.Mutex
	lanes map[string]laneHealth
}

func newHealth() *health { return &health{lanes: map[string]laneHealth{}} }

func (h *health) of(lane string) laneHealth {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lanes[lane]
}

// note takes the outcome of a try: a state of Page, whether the provider refuses the page time and again, and its answer.
func (h *health) note(lane, state string, refused bool, answer string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if state == "delivered" {
		delete(h.lanes, lane)
		return
	}
	was := h.lanes[lane]
	if was.failing.IsZero() {
		was.failing = now
	}
	was.answer, was.failed = answer[:min(len(answer), maxAnswer)], was.failed || refused || state == "failed"
	h.lanes[lane] = was
}

// load takes over how the last pages of an earlier pager fared.
func (h *health) load(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, `SELECT receiver, integration, idx, state, answer, created_at FROM page
		WHERE seq IN (SELECT max(seq) FROM page WHERE attempts > 0 AND state != 'stopped' GROUP BY receiver, integration, idx)`)
	if err != nil {
		return fmt.Errorf("read the last pages: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			receiver, integration, state, answer string
			idx                                  int
			at                                   int64
		)
		if err := rows.Scan(&receiver, &integration, &idx, &state, &answer, &at); err != nil {
			return fmt.Errorf("read the last pages: %w", err)
		}
		h.note(laneName(receiver, integration, idx), state, false, answer, time.UnixMilli(at))
	}
	return rows.Err()
}

// receiverHealth remembers how the last try of each receiver's integration went: the metric bramble_receiver_failing. A
// receiver that is taken out of the configuration fails no more.
type receiverHealth struct {
	desc    *prometheus.Desc
	inForce func(receiver, integration string) bool

	mu      sync.Mutex
	failing map[receiverName]bool
}

type receiverName struct{ receiver, integration string }

func newReceiverHealth(inForce func(receiver, integration string) bool) *receiverHealth {
	return &receiverHealth{
		desc: prometheus.NewDesc("bramble_receiver_failing", "1 where the last try to deliver a page through a receiver failed.",
			[]string{"receiver", "integration"}, nil),
		inForce: inForce, failing: map[receiverName]bool{},
	}
}

func (h *receiverHealth) note(receiver, integration string, failed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failing[receiverName{receiver, integration}] = failed
}

// Describe implements prometheus.Collector.
func (h *receiverHealth) Describe(out chan<- *prometheus.Desc) { out <- h.desc }

// Collect implements prometheus.Collector.
func (h *receiverHealth) Collect(out chan<- prometheus.Metric) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, failing := range h.failing {
		value := 0.0
		if failing && h.inForce(name.receiver, name.integration) {
			value = 1
		}
		out <- prometheus.MustNewConstMetric(h.desc, prometheus.GaugeValue, value, name.receiver, name.integration)
	}
}

// integrates reports whether the configuration has such an integration.
func (p *Pager) integrates(receiver, integration string) bool {
	r := p.routing.Load()
	if r == nil {
		return false
	}
	for i := range r.integrations[receiver] {
		if r.integrations[receiver][i].Name() == integration {
			return true
		}
	}
	return false
}
