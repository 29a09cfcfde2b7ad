package pager

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"google.golang.org/protobuf/proto"

	"bramble/alerting/alert"
	"bramble/alerting/database"
	"bramble/alerting/escalation"
	"bramble/alerting/fault"
	"bramble/alerting/outbox"
	"bramble/alerting/receivers"
)

const (
	// maxRefusedBackoff bounds the wait before the next try of a page that its receiver refused (4xx, a rejected credential), where
	// the group_interval of the receiver's routes is longer.
	maxRefusedBackoff = 5 * time.Minute
	// giveUpAfter ends a message that no provider took and that tells of nothing that still fires, such as a resolve.
	giveUpAfter = 24 * time.Hour
)

// carrier sends one kind of messages, and follows up on each try. Its methods are safe for concurrent use.
type carrier interface {
	// over reports whether a message has become untrue, and is not to be tried any more.
	over(context.Context, *outbox.Message) bool
	// send tries a message once; retry is false for an answer that says "never".
	send(context.Context, *outbox.Message) (retry bool, err error)
	// backoff is the wait before the next try, givenUp whether there is none.
	backoff(*outbox.Message) time.Duration
	givenUp(ctx context.Context, l *outbox.Message, err error, now time.Time) bool
	// tried counts and logs a try, before it is recorded; settled follows once another try may begin.
	tried(l *outbox.Message, state, answer string, err error, now time.Time)
	settled(l *outbox.Message, state string)
}

// courier tries the messages of one outbox and records the outcome.
type courier struct {
	carrier
	outbox *outbox.Queue
	faults *fault.Guard
	record func(l *outbox.Message, state, answer string, now time.Time)
}

// try sends a message once and records the outcome. A page that left is recorded even while the program stops.
func (d *courier) try(ctx context.Context, l *outbox.Message) {
	if d.over(ctx, l) { // the resolve follows
		d.outbox.Answered(l)
		d.record(l, "stopped", "over before the receiver took it", time.Now())
		d.outbox.Settle(l, true)
		d.settled(l, "stopped")
		return
	}
	retry, err := true, fault.Err // it is tried again, and holds up no other
	d.faults.Run("send page "+l.ID, func() { retry, err = d.send(ctx, l) })
	if err != nil && ctx.Err() != nil {
		d.outbox.Settle(l, false) // interrupted by the stop, not refused
		return
	}
	d.outbox.Answered(l)
	l.Attempts++
	now := time.Now()
	state, answer := "delivered", "accepted"
	if err != nil {
		state, answer = "waiting", err.Error()
		l.Refused = !retry
		l.NextAt = now.Add(max(d.backoff(l), l.RetryAfter)).UnixMilli()
		if d.givenUp(ctx, l, err, now) {
			state = "failed"
		}
		if d.outbox.IsCancelled(l) {
			state = "stopped"
		}
	}
	d.tried(l, state, answer, err, now)
	d.record(l, state, answer, now)
	d.outbox.Settle(l, state != "waiting") // from here on another try may change it
	d.settled(l, state)
}

// pages carries the messages to receivers.
type pages struct {
	db      *sql.DB
	commits *database.Writer
	log     *slog.Logger
	metrics *pagerMetrics
	health  *outbox.Health
	outbox  *outbox.Queue
	threads *nflog.Log // reads the values that integrations put into a store; holds nothing for long
	routing func() *routing
	changed func(incident string)
}

// over holds for a page that its receiver refused and whose alerts are over by now.
func (p *pages) over(ctx context.Context, l *outbox.Message) bool {
	return l.Refused && l.SaysFiring() && !p.stillFires(ctx, l)
}

// givenUp says so of a page whose receiver is gone. A page is tried for as long as it is true.
func (p *pages) givenUp(ctx context.Context, l *outbox.Message, err error, now time.Time) bool {
	if errors.Is(err, receivers.ErrGone) || errors.Is(err, errStale) {
		return true
	}
	return now.Sub(time.UnixMilli(l.CreatedAt)) > giveUpAfter && !(l.SaysFiring() && p.stillFires(ctx, l))
}

func (p *pages) tried(l *outbox.Message, state, answer string, err error, now time.Time) {
	p.metrics.tries.WithLabelValues(l.Integration, state).Inc()
	p.metrics.health.note(l.Receiver, l.Integration, err != nil)
	p.health.Note(l.Lane(), state, l.Refused && l.Attempts >= escalation.TriesBeforeNext, answer, now)
	p.logTry(l, state, err, now)
}

// settled has the others of a receiver that works again tried at once.
func (p *pages) settled(l *outbox.Message, state string) {
	if state == "delivered" {
		p.outbox.Hurry(func(o *outbox.Message) bool { return o.Lane() == l.Lane() })
	}
	if l.Incident != "" && l.Kind() != alert.ToWatchdog {
		p.changed(l.Incident)
	}
}

// stillFires reports whether an incident that a page is about, alone or with others, is open. Where that cannot be read it counts as open.
func (p *pages) stillFires(ctx context.Context, l *outbox.Message) bool {
	var open bool
	row := p.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM incident WHERE resolved_at = 0 AND
		(id = ? OR id IN (SELECT p.incident FROM page_to t JOIN page p ON p.id = t.page WHERE t.bundle = ? AND t.bundle <> '')))`, l.Incident, l.ID)
	if err := row.Scan(&open); err != nil {
		p.log.Error("read whether a page is still true", "page", l.ID, "err", err)
		return true
	}
	return open
}

func (p *pages) logTry(l *outbox.Message, state string, err error, now time.Time) {
	log := p.log.With("page", l.ID, "incident", l.Incident, "receiver", l.Receiver, "integration", l.Integration, "attempts", l.Attempts)
	switch {
	case l.Kind() == alert.ToWatchdog: // it says itself when that changes
	case state == "delivered":
		if l.ReadingAt != 0 {
			p.metrics.latency.Observe(float64(now.UnixMilli()-l.ReadingAt) / 1000)
		}
		log.Info("page delivered", "after_ms", now.UnixMilli()-l.CreatedAt)
	case state == "failed":
		log.Error("page given up", "err", err)
	case l.Attempts == 1:
		log.Warn("page not delivered, trying again", "err", err)
	}
}

// backoff is how long a message that was not taken waits before the next try.
func (p *pages) backoff(l *outbox.Message) time.Duration {
	if !l.Refused {
		return outbox.Backoff(l.Attempts, outbox.MaxBackoff)
	}
	longest := maxRefusedBackoff
	if d := p.routing().intervalOf[l.Receiver]; d > 0 { // a person's channel has no route
		longest = min(longest, d)
	}
	return min(outbox.Backoff(l.Attempts, longest), longest)
}

// send hands a message to its integration, and keeps its thread.
func (p *pages) send(ctx context.Context, l *outbox.Message) (retry bool, err error) {
	thread, err := p.openThread(ctx, l)
	if err != nil {
		return true, err
	}
	retry, err = p.routing().set.Send(ctx, l, thread.store)
	if err == nil {
		thread.save(p)
	}
	return retry, receivers.WithoutSecrets(l.Integration, err)
}

// thread holds an integration's memory of a group between its pages, such as the chat message to update.
type thread struct {
	store   *nflog.Store
	message *outbox.Message
	was     []byte
}

// openThread reads the thread of a message's group; a new one is empty.
func (p *pages) openThread(ctx context.Context, l *outbox.Message) (*thread, error) {
	t := &thread{message: l}
	row := p.db.QueryRowContext(ctx, `SELECT entry FROM alert_thread WHERE receiver = ? AND integration = ? AND idx = ? AND group_key = ?`,
		l.Receiver, l.Integration, l.Index, l.GroupKey)
	if err := row.Scan(&t.was); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("read thread of page %s: %w", l.ID, err)
	}
	var entry nflogpb.Entry
	if err := proto.Unmarshal(t.was, &entry); err != nil {
		return nil, fmt.Errorf("decode thread of page %s: %w", l.ID, err)
	}
	t.store = nflog.NewStore(&entry)
	return t, nil
}

// save keeps the integration's changes. Losing them costs an edited message, so an error is only logged.
func (t *thread) save(p *pages) {
	if t.message.GroupKey == "" { // messages that were collected are of no group
		return
	}
	b, err := t.encode(p.threads)
	if err != nil {
		p.log.Error("encode a page's thread", "page", t.message.ID, "err", err)
		return
	}
	if bytes.Equal(b, t.was) {
		return
	}
	l := t.message
	err = p.commits.Do(func(c *sql.Conn) error {
		_, err := c.ExecContext(context.Background(), `INSERT OR REPLACE INTO alert_thread (receiver, integration, idx, group_key, entry, at) VALUES (?,?,?,?,?,?)`,
			l.Receiver, l.Integration, l.Index, l.GroupKey, b, time.Now().UnixMilli())
		return err
	})
	if err != nil {
		p.log.Error("write a page's thread", "page", l.ID, "err", err)
	}
}

// encode goes through a notification log, the only thing that can read a store.
func (t *thread) encode(log *nflog.Log) ([]byte, error) {
	to := &nflogpb.Receiver{GroupName: t.message.ID}
	if err := log.Log(to, t.message.GroupKey, nil, nil, t.store, time.Minute); err != nil {
		return nil, err
	}
	found, err := log.Query(nflog.QGroupKey(t.message.GroupKey), nflog.QReceiver(to))
	if err != nil || len(found[0].ReceiverData) == 0 {
		return nil, err
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(&nflogpb.Entry{ReceiverData: found[0].ReceiverData})
}
