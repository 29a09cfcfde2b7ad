package outbox

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"

	"bramble/alerting/alert"
	"bramble/alerting/database"
	"bramble/pisensor/backoff"
	"bramble/storage/statedb"
)

// Message is one page on its way to one integration.
type Message struct {
	ID, Incident          string
	Receiver, Integration string
	Index                 int
	GroupKey              string
	Reason                notify.NotifyReason
	Payload               []byte
	CreatedAt, ReadingAt  int64
	Attempts              int
	NextAt                int64 // Unix milliseconds; not to be tried before
	// Refused says that the last try was answered with "never" (4xx), RetryAfter for how long that answer put the page off.
	Refused    bool
	RetryAfter time.Duration

	// Way, SentAt and Drew are of the last try: how the reading came to the page, when the integration was asked, in Unix milliseconds,
	// and for how long it drew the picture.
	Way    *Way
	SentAt int64
	Drew   time.Duration

	inFlight  bool
	triedAt   int64 // when its last try began, Unix milliseconds
	recording bool  // answered; the outcome is being recorded
	done      bool
	// cancelled messages are on their way and are not to be tried again.
	cancelled bool
}

// Lane names the integration: lanes do not wait for each other.
func (l *Message) Lane() string { return LaneOf(l.Receiver, l.Integration, l.Index) }

// Kind is the kind of the receiver that it goes to.
func (l *Message) Kind() alert.ReceiverKind { return alert.KindOf(l.Receiver) }

// LaneOf is Message.Lane for an integration.
func LaneOf(receiver, integration string, idx int) string {
	return fmt.Sprintf("%s/%s/%d", receiver, integration, idx)
}

// Insert writes a message into the journal, as "waiting" or as "bundled".
func (l *Message) Insert(ctx context.Context, db database.Querier, state string) error {
	_, err := db.ExecContext(ctx, `INSERT INTO page
		(id, incident, receiver, integration, idx, group_key, reason, payload, created_at, reading_at, state, next_at)
		VALUES (?,?,?,?,?,?,?,?,?,?,?,?)`,
		l.ID, l.Incident, l.Receiver, l.Integration, l.Index, l.GroupKey, int(l.Reason), string(l.Payload), l.CreatedAt, l.ReadingAt, state, l.NextAt)
	if err != nil {
		return fmt.Errorf("write page %s: %w", l.ID, err)
	}
	return nil
}

// Waiting reads the pages that no provider has accepted yet, the oldest first.
func Waiting(ctx context.Context, db database.Querier) ([]*Message, error) {
	out, err := statedb.All(ctx, db, func(row *sql.Rows) (*Message, error) {
		var (
			l       Message
			reason  int
			payload string
		)
		err := row.Scan(&l.ID, &l.Incident, &l.Receiver, &l.Integration, &l.Index, &l.GroupKey, &reason, &payload, &l.CreatedAt, &l.ReadingAt, &l.Attempts, &l.NextAt)
		if err != nil {
			return nil, err
		}
		l.Reason, l.Payload = notify.NotifyReason(reason), []byte(payload)
		l.NextAt = min(l.NextAt, time.Now().Add(MaxBackoff).UnixMilli()) // the clock may have been set back
		return &l, nil
	}, `SELECT id, incident, receiver, integration, idx, group_key, reason, payload, created_at, reading_at, attempts, next_at
		FROM page WHERE state = 'waiting' ORDER BY seq`)
	if err != nil {
		return nil, fmt.Errorf("read waiting pages: %w", err)
	}
	return out, nil
}

// laneWidth is how many pages of one integration may be on their way at once, so that one that hangs does not hold up
// the pages of other incidents to the same provider.
const laneWidth = 8

// Queue holds the messages that wait, in the order of the journal. It is safe for concurrent use.
type Queue struct {
	wake chan struct{}

	mu    sync.Mutex
	lanes map[string][]*Message
}

// NewQueue returns an empty queue.
func NewQueue() *Queue {
	return &Queue{wake: make(chan struct{}, 1), lanes: map[string][]*Message{}}
}

// Add puts messages behind those that wait.
func (m *Queue) Add(messages []*Message) {
	if len(messages) == 0 {
		return
	}
	m.mu.Lock()
	for _, l := range messages {
		for _, earlier := range m.lanes[l.Lane()] { // a group's messages leave in order, so its next one waits for them
			if earlier.GroupKey == l.GroupKey {
				earlier.hurry(time.Now().UnixMilli())
			}
		}
		m.lanes[l.Lane()] = append(m.lanes[l.Lane()], l)
	}
	m.mu.Unlock()
	m.signal()
}

// Hurry has the messages that wait for another try, and that a function selects, tried now: their receiver may take them.
func (m *Queue) Hurry(which func(*Message) bool) {
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

// Begin marks a message as in flight since a time.
func (l *Message) Begin(now time.Time) { l.inFlight, l.triedAt = true, now.UnixMilli() }

// hurry brings the next try of a message that was refused forward, but for the wait that the provider asked for by
// Retry-After. The queue's mu guards it.
func (l *Message) hurry(now int64) {
	if !l.inFlight && l.Refused {
		l.NextAt = min(l.NextAt, max(now, l.triedAt+max(minBackoff, l.RetryAfter).Milliseconds()))
	}
}

func (m *Queue) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Cancel takes messages out; those on their way are not tried again.
func (m *Queue) Cancel(which func(*Message) bool) {
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
func (m *Queue) next(now time.Time) (out []*Message, again time.Duration) {
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
			first := !busy[l.GroupKey]
			busy[l.GroupKey] = true
			if l.inFlight || !first || inFlight >= laneWidth {
				continue
			}
			if wait := time.Duration(l.NextAt-now.UnixMilli()) * time.Millisecond; wait > 0 {
				again = min(again, wait)
				continue
			}
			l.Begin(now)
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

func countInFlight(lane []*Message) (n int) {
	for _, l := range lane {
		if l.inFlight && !l.recording && !l.done {
			n++
		}
	}
	return n
}

// Answered frees a message's place in its lane while its outcome is recorded; its group still waits.
func (m *Queue) Answered(l *Message) {
	m.mu.Lock()
	l.recording = true
	m.mu.Unlock()
	m.signal()
}

// Settle takes a message back after a try: gone for good, or to be tried again at its NextAt.
func (m *Queue) Settle(l *Message, gone bool) {
	m.mu.Lock()
	l.inFlight, l.recording, l.done = false, false, gone || l.cancelled
	m.mu.Unlock()
	m.signal()
}

// IsCancelled reports whether a message on its way was cancelled.
func (m *Queue) IsCancelled(l *Message) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return l.cancelled
}

// Shift moves the times of waiting messages, in milliseconds, after the wall clock was set. Messages written since have the new
// time already, so nothing is put off by more than a wait for the next try.
func (m *Queue) Shift(jump int64) {
	now := time.Now().UnixMilli()
	m.mu.Lock()
	for _, lane := range m.lanes {
		for _, l := range lane {
			if l.inFlight {
				continue
			}
			l.NextAt = min(l.NextAt+jump, now+MaxBackoff.Milliseconds())
			if l.Attempts == 0 {
				l.NextAt = min(l.NextAt, now)
			}
			l.CreatedAt = min(l.CreatedAt+jump, now)
		}
	}
	m.mu.Unlock()
	m.signal()
}

// Waiting counts the messages that no provider has accepted.
func (m *Queue) Waiting() (n int) {
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

// BrokenAfter is how long a receiver may fail before it counts as broken: several tries.
const BrokenAfter = time.Minute

// LaneHealth is how the last page to an integration fared.
type LaneHealth struct {
	Failing time.Time // since when, zero where it is well
	Failed  bool      // a page was given up, or refused several times
	Answer  string
}

// Health remembers how the last page to every integration fared. It is safe for concurrent use.
type Health struct {
	mu    sync.Mutex
	lanes map[string]LaneHealth
}

// NewHealth returns one that knows of no failure.
func NewHealth() *Health { return &Health{lanes: map[string]LaneHealth{}} }

// Of returns the health of an integration by its lane; the zero value where it is well.
func (h *Health) Of(lane string) LaneHealth {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lanes[lane]
}

// Note takes the outcome of a try: a state of Page, whether the provider refuses the page time and again, and its answer.
func (h *Health) Note(lane, state string, refused bool, answer string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if state == "delivered" {
		delete(h.lanes, lane)
		return
	}
	was := h.lanes[lane]
	if was.Failing.IsZero() {
		was.Failing = now
	}
	was.Answer, was.Failed = answer[:min(len(answer), MaxAnswer)], was.Failed || refused || state == "failed"
	h.lanes[lane] = was
}

// Load takes over how the last pages of an earlier pager fared.
func (h *Health) Load(ctx context.Context, db *sql.DB) error {
	err := statedb.Each(ctx, db, func(row *sql.Rows) error {
		var (
			receiver, integration, state, answer string
			idx                                  int
			at                                   int64
		)
		if err := row.Scan(&receiver, &integration, &idx, &state, &answer, &at); err != nil {
			return err
		}
		h.Note(LaneOf(receiver, integration, idx), state, false, answer, time.UnixMilli(at))
		return nil
	}, `SELECT receiver, integration, idx, state, answer, created_at FROM page
		WHERE seq IN (SELECT max(seq) FROM page WHERE attempts > 0 AND state != 'stopped' GROUP BY receiver, integration, idx)`)
	if err != nil {
		return fmt.Errorf("read the last pages: %w", err)
	}
	return nil
}

const (
	// minBackoff and MaxBackoff bound the wait before the next try, before jitter.
	minBackoff = 500 * time.Millisecond
	// MaxBackoff is the longest of these waits.
	MaxBackoff = time.Minute
	// MaxAnswer bounds the part of a provider's answer that is kept, in bytes.
	MaxAnswer = 500
)

// Deliver has waiting messages tried until ctx ends, then waits for those in flight.
func (m *Queue) Deliver(ctx context.Context, try func(context.Context, *Message)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		case <-timer.C:
		}
		messages, again := m.next(time.Now())
		for _, l := range messages {
			wg.Go(func() { try(ctx, l) })
		}
		timer.Reset(again)
	}
}

// SaysFiring reports whether a message says that something fires; all others tell of an end or of an acknowledgement.
func (l *Message) SaysFiring() bool {
	return l.Reason == notify.ReasonFirstNotification || l.Reason == notify.ReasonNewAlertsInGroup || l.Reason == notify.ReasonRepeatIntervalElapsed
}

// Timing says where the time went from the reading that fired until the provider took the page, at leftAt.
func (l *Message) Timing(leftAt int64) string {
	var parts []string
	at := l.Way.Sampled
	until := func(to int64, what string) {
		if to != 0 {
			parts = append(parts, what+" "+milliseconds(to-at))
			at = max(at, to)
		}
	}
	until(l.Way.Arrived, "sampled to received")
	until(l.Way.Decided, "decided")
	until(l.Way.Journalled, "journalled")
	until(l.Way.Passed, "held for peers")
	until(l.CreatedAt, "written")
	if l.Attempts > 1 {
		until(l.triedAt, fmt.Sprintf("until try %d", l.Attempts))
	} else {
		until(l.triedAt, "queued") // with others to the same person, or behind another page to the receiver
	}
	until(l.SentAt, "prepared")
	if l.Drew > 0 {
		until(l.SentAt+l.Drew.Milliseconds(), "picture")
	}
	until(leftAt, "sent and taken")
	return milliseconds(leftAt-l.Way.Sampled) + " in all: " + strings.Join(parts, ", ")
}

// milliseconds writes a length of time; clocks that were set in between make none negative.
func milliseconds(ms int64) string {
	if ms < 1000 {
		return fmt.Sprintf("%d ms", max(0, ms))
	}
	return fmt.Sprintf("%.1f s", float64(ms)/1000)
}

// Backoff is the wait after so many tries, longest at most.
func Backoff(attempts int, longest time.Duration) time.Duration {
	return backoff.Wait(minBackoff, longest, attempts-1)
}

// LateAfter is how long a step of the pager's own may be overdue.
const LateAfter = 30 * time.Second

// failsAfter is how long a receiver may refuse a page until it is said that nobody hears.
const failsAfter = 5 * time.Minute

// Ago is how long ago a time in Unix milliseconds was.
func Ago(now time.Time, ms int64) time.Duration {
	return now.Sub(time.UnixMilli(ms)).Round(time.Second)
}

// Overdue finds pages that should have left: the first of each group, and those that their receiver does not take.
func (m *Queue) Overdue(now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, lane := range m.lanes {
		first := map[string]bool{}
		for _, l := range lane {
			if l.done || l.Kind() == alert.ToWatchdog {
				continue
			}
			if now.UnixMilli()-l.CreatedAt > failsAfter.Milliseconds() {
				return fmt.Errorf("%s has not taken page %s for %s", name, l.ID, Ago(now, l.CreatedAt))
			}
			due := l.triedAt
			if !l.inFlight { // else the try writes NextAt
				due = l.NextAt
			}
			if !first[l.GroupKey] && now.UnixMilli()-due > LateAfter.Milliseconds() {
				return fmt.Errorf("page %s to %s is overdue by %s", l.ID, name, Ago(now, due))
			}
			first[l.GroupKey] = true
		}
	}
	return nil
}

// Way is when the reading that made an alert fire passed the stations on its way to a page, in Unix milliseconds; 0 for those
// that are not known.
type Way struct {
	Sampled    int64 `json:"sampled"`
	Arrived    int64 `json:"arrived,omitempty"`
	Decided    int64 `json:"decided,omitempty"`
	Journalled int64 `json:"journalled,omitempty"`
	Passed     int64 `json:"passed,omitempty"` // to routing; until then it was held for its peers
}

// Body holds all that a page needs to be sent at any later time: the payload of a message, as JSON.
type Body struct {
	GroupLabels    model.LabelSet   `json:"group_labels"`
	RouteLabels    model.LabelSet   `json:"route_labels,omitempty"`
	Now            time.Time        `json:"now"`
	RepeatInterval time.Duration    `json:"repeat_interval"`
	Alerts         []*amalert.Alert `json:"alerts"`
	Way            *Way             `json:"way,omitempty"`
}

// Firing returns the alerts that fire.
func (b *Body) Firing() (out []*amalert.Alert) {
	for _, a := range b.Alerts {
		if a.EndsAt.IsZero() {
			out = append(out, a)
		}
	}
	return out
}
