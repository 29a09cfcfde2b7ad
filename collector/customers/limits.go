package customers

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

// Limits bound one customer's settings and mails.
type Limits struct {
	Contacts      int `yaml:"contacts"`      // at a time
	Thresholds    int `yaml:"thresholds"`    // at a time
	Changes       int `yaml:"changes"`       // of settings an hour
	Confirmations int `yaml:"confirmations"` // mails that ask an address to confirm, an hour
	Hourly        int `yaml:"hourly"`        // mails about alerts, by contact's mail; alerts beyond them wait and leave in one
	Daily         int `yaml:"daily"`         // likewise
}

// DefaultLimits suit a customer with some hundred boards.
var DefaultLimits = Limits{Contacts: 5, Thresholds: 100, Changes: 60, Confirmations: 5, Hourly: 20, Daily: 100}

// asksAnAddress is how many mails a day ask one address to confirm, for all customers together: many customers must not
// fill a stranger's mailbox.
const asksAnAddress = 3

// Kinds of counted acts.
const (
	aChange  = "change"
	anAsk    = "ask"
	aMessage = "message"
)

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// acts counts a customer's acts of a kind since a time, and returns the time of the first.
func acts(ctx context.Context, db execer, customer, what string, since time.Time) (n int, first time.Time, err error) {
	var at int64
	row := db.QueryRowContext(ctx, `SELECT count(*), coalesce(min(at), 0) FROM customer_act WHERE customer = ? AND what = ? AND at > ?`, customer, what, since.UnixMilli())
	if err := row.Scan(&n, &at); err != nil {
		return 0, first, fmt.Errorf("count what %s did: %w", customer, err)
	}
	return n, time.UnixMilli(at), nil
}

func act(ctx context.Context, db execer, customer, what string, now time.Time) error {
	if _, err := db.ExecContext(ctx, `INSERT INTO customer_act VALUES (?, ?, ?)`, customer, what, now.UnixMilli()); err != nil {
		return fmt.Errorf("count what %s did: %w", customer, err)
	}
	return nil
}

// spend counts one more where the limit allows it, else it wraps ErrTooOften and says when the next is possible.
func spend(ctx context.Context, db execer, customer, what string, limit int, window time.Duration, now time.Time) error {
	n, first, err := acts(ctx, db, customer, what, now.Add(-window))
	if err != nil {
		return err
	}
	if n >= limit {
		return fmt.Errorf("%w: %d within %s is the limit; the next is possible at %s", ErrTooOften, limit, window, first.Add(window).UTC().Format("15:04:05 UTC"))
	}
	return act(ctx, db, customer, what, now)
}

// within runs a change in a transaction.
func (b *Store) within(ctx context.Context, run func(tx *sql.Tx) error) error {
	tx, err := b.DB.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("change a customer's settings: %w", err)
	}
	defer tx.Rollback()
	if err := run(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// note writes the audit line of a change.
func note(ctx context.Context, db execer, who, action, object, detail string) error {
	_, err := db.ExecContext(ctx, `INSERT INTO audit (at, actor, action, object, detail) VALUES (?, ?, ?, ?, ?)`, time.Now().UnixMilli(), who, action, object, detail)
	if err != nil {
		return fmt.Errorf("%s %s: %w", action, object, err)
	}
	return nil
}
