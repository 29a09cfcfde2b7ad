// Package customers owns customers' settings for their own boards: thresholds, and the addresses that get mails about them.
// It keeps both in the state database, with every alert of a threshold and whether it was notified.
//
// It does not page: an operator is never notified of a customer's threshold, and no operator's receiver is used. It sends
// nothing itself: mails go through the journal that it is given, and to confirmed addresses alone.
package customers

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"bramble/alerting/alert"
	"bramble/alerting/rules"
)

const (
	// keepAlerts is how long alerts that are over stay, and keepOfOne how many of one customer's: a board's owner decides how
	// often it crosses a line.
	keepAlerts = 90 * 24 * time.Hour
	keepOfOne  = 5000
)

// Errors that callers branch on.
var (
	// ErrBad is wrapped where a request cannot be met, with the reason for the person.
	ErrBad = errors.New("bad request")
	// ErrTooOften is wrapped where a limit is reached.
	ErrTooOften = errors.New("too often")
	// ErrNotFound is wrapped where a threshold, a contact or a link is not there.
	ErrNotFound = errors.New("not found")
)

// Options are a Store's dependencies. All but Log and Limits are required.
type Options struct {
	DB *sql.DB
	// SetThresholds puts a customer's thresholds in force and returns the alerts that end by that, which go to Commit.
	SetThresholds func(customer string, all []rules.Threshold) []alert.Transition
	EndStrayed    func(owner func(board string) string) []alert.Transition
	Commit        func([]alert.Transition) error
	// Post journals mails in one transaction with the writes of also, which may run more than once. CanMail says why none can
	// be sent.
	Post    func(mails []alert.CustomerMail, also func(*sql.Conn) error) error
	CanMail func() error
	// MailState is the state of the last mail to a contact, and the server's answer.
	MailState func(ctx context.Context, contact string) (state, answer string, err error)
	// Owner is the customer of a board at a time (Unix ms), "" where it has none.
	Owner func(board string, at int64) string
	URL   string // the beginning of links, with a slash at its end
	// Limits are DefaultLimits where they are zero.
	Limits Limits
	Log    *slog.Logger
}

// Store keeps customers' settings and alerts. All methods are safe for concurrent use.
type Store struct {
	Options
	key  []byte // of links
	wake chan struct{}

	change sync.Mutex // held for a whole change of settings

	mu    sync.Mutex
	queue []alert.Transition // delivered, and not in the database yet
	write sync.Mutex         // serialises the transactions that empty the queue
}

// Open reads the settings and puts them in force. Its tables are those of statedb.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits
	}
	b := &Store{Options: o, wake: make(chan struct{}, 1)}
	var err error
	if b.key, err = linkKey(ctx, o.DB); err != nil {
		return nil, err
	}
	if err := b.tidy(ctx, time.Now()); err != nil {
		return nil, err
	}
	all, err := thresholds(ctx, o.DB, "")
	if err != nil {
		return nil, err
	}
	for customer, list := range all {
		b.SetThresholds(customer, list) // nothing fires yet that could end
	}
	return b, nil
}

func linkKey(ctx context.Context, db *sql.DB) (key []byte, err error) {
	fresh := make([]byte, sha256.Size)
	if _, err := rand.Read(fresh); err != nil {
		return nil, fmt.Errorf("make a key for customers' links: %w", err)
	}
	if _, err := db.ExecContext(ctx, `INSERT OR IGNORE INTO customer_key (id, key) VALUES (1, ?)`, fresh); err != nil {
		return nil, fmt.Errorf("write the key of customers' links: %w", err)
	}
	if err := db.QueryRowContext(ctx, `SELECT key FROM customer_key`).Scan(&key); err != nil {
		return nil, fmt.Errorf("read the key of customers' links: %w", err)
	}
	return key, nil
}

// tidy drops rows that are too old to matter.
func (b *Store) tidy(ctx context.Context, now time.Time) error {
	for _, q := range []struct {
		text string
		at   time.Time
	}{
		{`DELETE FROM customer_act WHERE at < ?`, now.Add(-day)},
		{`DELETE FROM customer_alert WHERE ended_at > 0 AND ended_at < ? AND notified_fired <> 0 AND notified_ended <> 0`, now.Add(-keepAlerts)},
	} {
		if _, err := b.DB.ExecContext(ctx, q.text, q.at.UnixMilli()); err != nil {
			return fmt.Errorf("clean customers' tables: %w", err)
		}
	}
	_, err := b.DB.ExecContext(ctx, `DELETE FROM customer_alert WHERE ended_at > 0 AND notified_fired <> 0 AND notified_ended <> 0 AND seq IN (
		SELECT seq FROM (SELECT seq, row_number() OVER (PARTITION BY customer ORDER BY seq DESC) AS n FROM customer_alert) WHERE n > ?)`, keepOfOne)
	if err != nil {
		return fmt.Errorf("clean customers' tables: %w", err)
	}
	return nil
}

func (b *Store) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Run writes delivered transitions, notifies the customers, and ends alerts on boards that went to another customer, until
// ctx ends. Transitions delivered before and after it are written as well: see Settle.
func (b *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	hourly := time.Now()
	for {
		select {
		case <-ctx.Done():
			return b.Settle()
		case <-b.wake:
		case now := <-tick.C:
			if now.Sub(hourly) > time.Hour {
				hourly = now
				b.try(ctx, "clean up", b.tidy(ctx, now))
			}
			gone := b.EndStrayed(func(board string) string { return b.Owner(board, now.UnixMilli()) })
			b.try(ctx, "end alerts of boards that are another's", b.Commit(gone))
		}
		b.try(ctx, "write alerts", b.Settle())
		b.try(ctx, "notify customers", b.notify(ctx, time.Now()))
	}
}

// try logs the error of a step that will be tried again.
func (b *Store) try(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		b.Log.Error("customers: "+what, "err", err)
	}
}
