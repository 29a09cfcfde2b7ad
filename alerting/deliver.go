package alerting

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
)

const (
	// tryTimeout is how long a provider may take to answer.
	tryTimeout = 5 * time.Second
	// minBackoff and maxBackoff bound the wait before the next try, before jitter.
	minBackoff = 500 * time.Millisecond
	maxBackoff = time.Minute
	// refusals is how many answers that say "never" (4xx) end a page; one may be a passing fault of a proxy.
	refusals = 5
	// giveUpAfter ends a page that no provider took: a day later it wakes somebody for nothing.
	giveUpAfter = 24 * time.Hour
	// maxAnswer bounds what is kept of a provider's answer, in bytes.
	maxAnswer = 500
)

// errReceiverGone is the answer for a page whose receiver a reload removed.
var errReceiverGone = errors.New("the receiver is no longer in the configuration")

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
	retry, err := p.send(ctx, l)
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
		l.nextAt = now.Add(backoff(l.attempts)).UnixMilli()
		if !retry && l.attempts >= refusals || now.Sub(time.UnixMilli(l.createdAt)) > giveUpAfter || errors.Is(err, errReceiverGone) || errors.Is(err, errStale) {
			state = "failed"
		}
		if p.mail.dropped(l) {
			state = "stopped"
		}
	}
	p.metrics.tries.WithLabelValues(l.integration, state).Inc()
	p.metrics.health.note(l.receiver, l.integration, err != nil)
	p.health.note(l.lane(), state, answer, now)
	p.recordTry(l, state, answer, now)
	p.logTry(l, state, err, now)
	p.mail.settle(l, state != "waiting") // from here on another try may change it
	if l.incident != "" && l.receiver != Watchdog {
		p.changed(l.incident)
	}
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
		return errors.Join(err, e.tried(l, state, answer, leftAt))
	}
	for range 3 {
		err := p.commits.do(write)
		if err == nil {
			p.after(e)
			return
		}
		p.log.Error("record a page's delivery", "page", l.id, "state", state, "err", err)
	}
}

func (p *Pager) logTry(l *letter, state string, err error, now time.Time) {
	log := p.log.With("page", l.id, "incident", l.incident, "receiver", l.receiver, "integration", l.integration, "attempts", l.attempts)
	switch {
	case l.receiver == Watchdog: // it says itself when that changes
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

// backoff doubles from minBackoff to maxBackoff, with ±50 % of jitter.
func backoff(attempts int) time.Duration {
	d := min(minBackoff<<min(attempts-1, 10), maxBackoff)
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
	retry, err = safeNotify(notify.WithNflogStore(ctx, thread.store), to, alerts)
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

// safeNotify turns a panic of an integration or its template into an error.
func safeNotify(ctx context.Context, to *notify.Integration, alerts []*amalert.Alert) (retry bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			retry, err = false, fmt.Errorf("integration %s panicked: %v", to, r)
		}
	}()
	return to.Notify(ctx, alerts...)
}
