package alerting

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"

	"bramble/alerting/alert"
)

const (
	// tryTimeout is how long a provider may take to answer.
	tryTimeout = 5 * time.Second
	// minBackoff and maxBackoff bound the wait before the next try, before jitter.
	minBackoff = 500 * time.Millisecond
	maxBackoff = time.Minute
	// maxRefusedBackoff bounds the wait before the next try of a page that its receiver refused (4xx, a rejected credential), where
	// the group_interval of the receiver's routes is longer.
	maxRefusedBackoff = 5 * time.Minute
	// maxRetryAfter bounds how long a provider may put a page off by Retry-After.
	maxRetryAfter = time.Hour
	// giveUpAfter ends a message that no provider took and that tells of nothing that still fires, such as a resolve.
	giveUpAfter = 24 * time.Hour
	// maxAnswer bounds what is kept of a provider's answer, in bytes.
	maxAnswer = 500
)

// errReceiverGone is the answer for a page whose receiver a reload removed.
var errReceiverGone = errors.New("the receiver is no longer in the configuration")

// errFault is the answer for a page that could not be made.
var errFault = errors.New("a fault in the collector: see its log")

// deliver has what waits tried until ctx ends, then waits for what is on its way.
func (m *mailroom) deliver(ctx context.Context, try func(context.Context, *letter)) {
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
		letters, again := m.next(time.Now())
		for _, l := range letters {
			wg.Go(func() { try(ctx, l) })
		}
		timer.Reset(again)
	}
}

// try sends a letter once and records what came of it. A page that left is recorded even while the program stops.
func (p *Pager) try(ctx context.Context, l *letter) {
	if l.refused && l.pages() && !p.stillFires(ctx, l) {
		p.endUnsent(l)
		return
	}
	retry, err := p.safeSend(ctx, l)
	if err != nil && ctx.Err() != nil {
		p.mail.settle(l, false) // interrupted by the stop, not refused
		return
	}
	p.mail.land(l)
	l.attempts++
	now := time.Now()
	state, answer := "delivered", "accepted"
	if err != nil {
		state, answer = "waiting", err.Error()
		l.refused = !retry
		l.nextAt = now.Add(max(p.routing.Load().backoff(l), l.retryAfter)).UnixMilli()
		if p.givenUp(ctx, l, err, now) {
			state = "failed"
		}
		if p.mail.dropped(l) {
			state = "stopped"
		}
	}
	p.metrics.tries.WithLabelValues(l.integration, state).Inc()
	p.metrics.health.note(l.receiver, l.integration, err != nil)
	p.health.note(l.lane(), state, l.refused && l.attempts >= triesBeforeNext, answer, now)
	p.recordTry(l, state, answer, now)
	p.logTry(l, state, err, now)
	p.mail.settle(l, state != "waiting") // from here on another try may change it
	if state == "delivered" {
		p.mail.hurry(func(o *letter) bool { return o.lane() == l.lane() })
	}
	if l.incident != "" && l.receiver != alert.Watchdog {
		p.changed(l.incident)
	}
}

// endUnsent ends a page that its receiver refused and whose alerts are over by now: the resolve follows.
func (p *Pager) endUnsent(l *letter) {
	p.mail.land(l)
	p.recordTry(l, "stopped", "over before the receiver took it", time.Now())
	p.mail.settle(l, true)
	if l.incident != "" {
		p.changed(l.incident)
	}
}

// givenUp reports whether a message that was not taken is tried no more. A page is tried for as long as it is true.
func (p *Pager) givenUp(ctx context.Context, l *letter, err error, now time.Time) bool {
	if errors.Is(err, errReceiverGone) || errors.Is(err, errStale) {
		return true
	}
	return now.Sub(time.UnixMilli(l.createdAt)) > giveUpAfter && !(l.pages() && p.stillFires(ctx, l))
}

// pages reports whether a message says that something fires; all others tell of an end or of an acknowledgement.
func (l *letter) pages() bool {
	return l.reason == notify.ReasonFirstNotification || l.reason == notify.ReasonNewAlertsInGroup || l.reason == notify.ReasonRepeatIntervalElapsed
}

// stillFires reports whether an incident that a page is about, alone or with others, is open. Where that cannot be read it counts as open.
func (p *Pager) stillFires(ctx context.Context, l *letter) bool {
	var open bool
	row := p.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM incident WHERE resolved_at = 0 AND
		(id = ? OR id IN (SELECT p.incident FROM page_to t JOIN page p ON p.id = t.page WHERE t.bundle = ? AND t.bundle <> '')))`, l.incident, l.id)
	if err := row.Scan(&open); err != nil {
		p.log.Error("read whether a page is still true", "page", l.id, "err", err)
		return true
	}
	return open
}

// recordTry writes the outcome. A page that left must be on record, so the write is repeated until it succeeds or the
// page would be sent again anyway.
func (p *Pager) recordTry(l *letter, state, answer string, now time.Time) {
	var leftAt int64
	if state == "delivered" {
		leftAt = now.UnixMilli()
	}
	var e *escalating
	write := func(c *sql.Conn) error {
		e = p.escalating(c)
		answer := answer[:min(len(answer), maxAnswer)]
		err := e.exec("write page", `UPDATE page SET state = ?, attempts = ?, next_at = ?, answer = ?, left_at = ?
			WHERE id = ? AND NOT (state = 'stopped' AND ? = 'waiting')`,
			state, l.attempts, l.nextAt, answer, leftAt, l.id, state)
		if state == "delivered" && l.incident != "" && l.readingAt != 0 && l.way != nil {
			err = errors.Join(err, e.event(l.incident, "timing", l.receiver, "%s", l.took(leftAt)))
		}
		return errors.Join(err, e.tried(l, state, answer, leftAt))
	}
	for range 3 {
		err := p.commits.Do(write)
		if err == nil {
			p.after(e)
			return
		}
		p.log.Error("record a page's delivery", "page", l.id, "state", state, "err", err)
	}
}

// took says where the time went from the reading that fired until the provider took the page, at leftAt.
func (l *letter) took(leftAt int64) string {
	var parts []string
	at := l.way.Sampled
	until := func(to int64, what string) {
		if to != 0 {
			parts = append(parts, what+" "+milliseconds(to-at))
			at = max(at, to)
		}
	}
	until(l.way.Arrived, "sampled to received")
	until(l.way.Decided, "decided")
	until(l.way.Journalled, "journalled")
	until(l.way.Passed, "held for peers")
	until(l.createdAt, "written")
	if l.attempts > 1 {
		until(l.flownAt, fmt.Sprintf("until try %d", l.attempts))
	} else {
		until(l.flownAt, "queued") // with others to the same person, or behind another page to the receiver
	}
	until(l.sentAt, "prepared")
	if l.drew > 0 {
		until(l.sentAt+l.drew.Milliseconds(), "picture")
	}
	until(leftAt, "sent and taken")
	return milliseconds(leftAt-l.way.Sampled) + " in all: " + strings.Join(parts, ", ")
}

// milliseconds writes a length of time; clocks that were set in between make none negative.
func milliseconds(ms int64) string {
	if ms < 1000 {
		return fmt.Sprintf("%d ms", max(0, ms))
	}
	return fmt.Sprintf("%.1f s", float64(ms)/1000)
}

func (p *Pager) logTry(l *letter, state string, err error, now time.Time) {
	log := p.log.With("page", l.id, "incident", l.incident, "receiver", l.receiver, "integration", l.integration, "attempts", l.attempts)
	switch {
	case l.receiver == alert.Watchdog: // it says itself when that changes
	case state == "delivered":
		if l.readingAt != 0 {
			p.metrics.latency.Observe(float64(now.UnixMilli()-l.readingAt) / 1000)
		}
		log.Info("page delivered", "after_ms", now.UnixMilli()-l.createdAt)
	case state == "failed":
		log.Error("page given up", "err", err)
	case l.attempts == 1:
		log.Warn("page not delivered, trying again", "err", err)
	}
}

// backoff is how long a message that was not taken waits before the next try.
func (r *routing) backoff(l *letter) time.Duration {
	if !l.refused {
		return backoff(l.attempts, maxBackoff)
	}
	longest := maxRefusedBackoff
	if d := r.intervalOf[l.receiver]; d > 0 { // a person's channel has no route
		longest = min(longest, d)
	}
	return min(backoff(l.attempts, longest), longest)
}

// backoff doubles from minBackoff to longest, with ±50 % of jitter.
func backoff(attempts int, longest time.Duration) time.Duration {
	d := min(minBackoff<<min(attempts-1, 10), longest)
	return d/2 + rand.N(d)
}

// send hands a letter to its integration.
func (p *Pager) send(ctx context.Context, l *letter) (retry bool, err error) {
	to := p.routing.Load().integration(l.receiver, l.integration, l.idx)
	if to == nil {
		return false, errReceiverGone
	}
	var body payload
	if err := json.Unmarshal(l.payload, &body); err != nil {
		return false, fmt.Errorf("decode page %s: %w", l.id, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, tryTimeout, fmt.Errorf("no answer within %s", tryTimeout))
	defer cancel()
	thread, err := p.openThread(ctx, l)
	if err != nil {
		return true, err
	}
	ctx, alerts := p.enriched(withPageID(l.context(ctx, body), l.id), l, body.Alerts)
	ctx, retryAfter := withRetryAfter(ctx)
	l.way, l.sentAt = body.Way, time.Now().UnixMilli()
	retry, err = safeNotify(notify.WithNflogStore(ctx, thread.store), to, alerts)
	l.retryAfter = retryAfter()
	if f := factsIn(ctx); f != nil {
		l.drew = f.drew
	}
	if err == nil {
		thread.save(p)
	}
	return retry, err
}

// context gives an integration what Alertmanager's pipeline would.
func (l *letter) context(ctx context.Context, body payload) context.Context {
	ctx = notify.WithGroupKey(ctx, l.groupKey)
	ctx = notify.WithReceiverName(ctx, l.receiver)
	ctx = notify.WithGroupLabels(ctx, body.GroupLabels)
	ctx = notify.WithRouteLabels(ctx, body.RouteLabels)
	ctx = notify.WithRepeatInterval(ctx, body.RepeatInterval)
	ctx = notify.WithNow(ctx, body.Now)
	return notify.WithNotificationReason(ctx, l.reason)
}

// safeSend turns a fault in what a page is made from into an error: the letter is tried again, and holds up no other.
func (p *Pager) safeSend(ctx context.Context, l *letter) (retry bool, err error) {
	retry, err = true, errFault
	p.faults.guard("send page "+l.id, func() { retry, err = p.send(ctx, l) })
	return retry, err
}

// safeNotify turns a panic of an integration or its template into an error.
func safeNotify(ctx context.Context, to *notify.Integration, alerts []*amalert.Alert) (retry bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			retry, err = false, fmt.Errorf("integration %s panicked: %v", to, r)
		}
	}()
	return to.Notify(ctx, alerts...)
}
