package alerting

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/alertmanager/notify"

	"bramble/alerting/database"
)

// letter is one page on its way to one integration.
type letter struct {
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

	flying  bool
	flownAt int64 // when it began to fly last, Unix milliseconds
	landing bool  // answered; what came of it is being recorded
	gone    bool
	// needless letters are on their way and are not to be tried again.
	needless bool
}

// lane names the integration: lanes do not wait for each other.
func (l *letter) lane() string { return laneName(l.receiver, l.integration, l.idx) }

func laneName(receiver, integration string, idx int) string {
	return fmt.Sprintf("%s/%s/%d", receiver, integration, idx)
}

// insert writes a letter into the journal, as "waiting" or as "bundled".
func (l *letter) insert(ctx context.Context, db database.Querier, state string) error {
	_, err := db.ExecContext(ctx, `INSERT INTO page
		(id, incident, receiver, integration, idx, group_key, reason, payload, created_at, reading_at, state, next_at)
		VALUES (?,?,?,?,?,?,?,?,?,?,?,?)`,
		l.id, l.incident, l.receiver, l.integration, l.idx, l.groupKey, int(l.reason), string(l.payload), l.createdAt, l.readingAt, state, l.nextAt)
	if err != nil {
		return fmt.Errorf("write page %s: %w", l.id, err)
	}
	return nil
}

// waitingLetters reads the pages that no provider has accepted yet, the oldest first.
func waitingLetters(ctx context.Context, db database.Querier) ([]*letter, error) {
	rows, err := db.QueryContext(ctx, `SELECT id, incident, receiver, integration, idx, group_key, reason, payload, created_at, reading_at, attempts, next_at
		FROM page WHERE state = 'waiting' ORDER BY seq`)
	if err != nil {
		return nil, fmt.Errorf("read waiting pages: %w", err)
	}
	defer rows.Close()
	var out []*letter
	for rows.Next() {
		var (
			l       letter
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

// mailroom holds the pages that wait, in the order of the journal.
type mailroom struct {
	wake chan struct{}

	mu    sync.Mutex
	lanes map[string][]*letter
}

func newMailroom() *mailroom {
	return &mailroom{wake: make(chan struct{}, 1), lanes: map[string][]*letter{}}
}

func (m *mailroom) add(letters []*letter) {
	if len(letters) == 0 {
		return
	}
	m.mu.Lock()
	for _, l := range letters {
		for _, earlier := range m.lanes[l.lane()] { // a group's messages leave in order, so its next one waits for them
			if earlier.groupKey == l.groupKey {
				earlier.hurry(time.Now().UnixMilli())
			}
		}
		m.lanes[l.lane()] = append(m.lanes[l.lane()], l)
	}
	m.mu.Unlock()
	m.ring()
}

// hurry has the letters that wait for another try, and that which selects, tried now: their receiver may take them.
func (m *mailroom) hurry(which func(*letter) bool) {
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
	m.ring()
}

// hurry brings the next try of a letter that was refused forward, but for what the provider asked for by Retry-After. The
// mailroom's mu guards it.
func (l *letter) hurry(now int64) {
	if !l.flying && l.refused {
		l.nextAt = min(l.nextAt, max(now, l.flownAt+max(minBackoff, l.retryAfter).Milliseconds()))
	}
}

func (m *mailroom) ring() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// drop takes out the letters that are needless now; those on their way are not tried again.
func (m *mailroom) drop(needless func(*letter) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, lane := range m.lanes {
		for _, l := range lane {
			if needless(l) {
				l.needless, l.gone = true, !l.flying
			}
		}
	}
}

// next returns the letters to send now, marked as flying, and when to look again. Pages of one group leave in order:
// a resolve must not overtake its alert.
func (m *mailroom) next(now time.Time) (out []*letter, again time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	again = time.Minute
	for name, lane := range m.lanes {
		left := lane[:0]
		flying, busy := countFlying(lane), map[string]bool{}
		for _, l := range lane {
			if l.gone {
				continue
			}
			left = append(left, l)
			first := !busy[l.groupKey]
			busy[l.groupKey] = true
			if l.flying || !first || flying >= laneWidth {
				continue
			}
			if wait := time.Duration(l.nextAt-now.UnixMilli()) * time.Millisecond; wait > 0 {
				again = min(again, wait)
				continue
			}
			l.flying, l.flownAt = true, now.UnixMilli()
			flying++
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

func countFlying(lane []*letter) (n int) {
	for _, l := range lane {
		if l.flying && !l.landing && !l.gone {
			n++
		}
	}
	return n
}

// land frees a letter's place in its lane while its outcome is recorded; its group still waits.
func (m *mailroom) land(l *letter) {
	m.mu.Lock()
	l.landing = true
	m.mu.Unlock()
	m.ring()
}

// settle takes a letter back after a try: gone for good, or to be tried again at its nextAt.
func (m *mailroom) settle(l *letter, gone bool) {
	m.mu.Lock()
	l.flying, l.landing, l.gone = false, false, gone || l.needless
	m.mu.Unlock()
	m.ring()
}

// dropped reports whether a letter on its way became needless.
func (m *mailroom) dropped(l *letter) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return l.needless
}

// shift moves the times of what waits, after the wall clock was set. What was written since it was set has the new time
// already, so nothing is put off by more than a wait for the next try.
func (m *mailroom) shift(jump int64) {
	now := time.Now().UnixMilli()
	m.mu.Lock()
	for _, lane := range m.lanes {
		for _, l := range lane {
			if l.flying {
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
	m.ring()
}

// waiting counts the letters that no provider has accepted.
func (m *mailroom) waiting() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, lane := range m.lanes {
		for _, l := range lane {
			if !l.gone {
				n++
			}
		}
	}
	return n
}
