package customers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"bramble/alerting/alert"
	"bramble/storage/statedb"
)

// Alert is one alert of a threshold.
type Alert struct {
	seq           int64
	Customer      string
	Kind, Board   string
	FiredAt       int64 // Unix ms of the reading
	EndedAt       int64 // 0: it still fires
	Value         float64
	notifiedFired int64
}

// nobodyNotified marks alerts without a mail, because the customer had no confirmed contact.
const nobodyNotified = -1

// Deliver takes transitions of customers' thresholds that are journalled, those of a replay included. It never blocks.
func (b *Store) Deliver(ts []alert.Transition) {
	if len(ts) == 0 {
		return
	}
	b.mu.Lock()
	b.queue = append(b.queue, ts...)
	b.mu.Unlock()
	b.signal()
}

// Settle returns when all that was delivered before is in the database. The caller calls it before it truncates its journal.
func (b *Store) Settle() error {
	b.write.Lock()
	defer b.write.Unlock()
	b.mu.Lock()
	ts := b.queue
	b.mu.Unlock()
	if len(ts) == 0 {
		return nil
	}
	ctx := context.Background()
	err := b.within(ctx, func(tx *sql.Tx) error {
		for _, t := range ts {
			if err := record(ctx, tx, t); err != nil {
				return fmt.Errorf("write a customer's alert: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.queue = b.queue[len(ts):]
	b.mu.Unlock()
	return nil
}

// record is idempotent: a replay brings transitions again.
func record(ctx context.Context, tx *sql.Tx, t alert.Transition) (err error) {
	board := t.Labels["board"]
	kind := t.Labels["alertname"]
	switch {
	case t.State == alert.Firing && t.From != alert.Cooling:
		_, err = tx.ExecContext(ctx, `INSERT OR IGNORE INTO customer_alert (customer, kind, board, fired_at, value) VALUES (?, ?, ?, ?, ?)`,
			t.Customer, kind, board, t.FiredAt, float64(t.Value))
	case t.State == alert.Inactive && t.FiredAt != 0:
		_, err = tx.ExecContext(ctx, `UPDATE customer_alert SET ended_at = ? WHERE customer = ? AND kind = ? AND board = ? AND fired_at = ? AND ended_at = 0`,
			t.At, t.Customer, kind, board, t.FiredAt)
	}
	return err
}

// Alerts lists those of a customer since a time, the newest first, and all that fire.
func (b *Store) Alerts(ctx context.Context, customer string, since time.Time) ([]Alert, error) {
	return b.alerts(ctx, `WHERE customer = ? AND (fired_at > ? OR ended_at = 0) ORDER BY fired_at DESC, seq DESC LIMIT 500`, customer, since.UnixMilli())
}

func (b *Store) alerts(ctx context.Context, where string, args ...any) (all []Alert, err error) {
	all, err = statedb.All(ctx, b.DB, func(row *sql.Rows) (a Alert, err error) {
		err = row.Scan(&a.seq, &a.Customer, &a.Kind, &a.Board, &a.FiredAt, &a.EndedAt, &a.Value, &a.notifiedFired)
		return a, err
	}, `SELECT seq, customer, kind, board, fired_at, ended_at, value, notified_fired FROM customer_alert `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read customers' alerts: %w", err)
	}
	return all, nil
}

const pending = `(notified_fired = 0 OR ended_at > 0 AND notified_ended = 0)`

// notify writes the mails about pending alerts, where the limits let it. Alerts beyond the limits wait, and leave in one
// mail.
func (b *Store) notify(ctx context.Context, now time.Time) error {
	names, err := b.waiting(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, customer := range names {
		errs = append(errs, b.notifyOne(ctx, customer, now))
	}
	return errors.Join(errs...)
}

// waiting are the customers with pending alerts.
func (b *Store) waiting(ctx context.Context) (names []string, err error) {
	names, err = statedb.All(ctx, b.DB, statedb.Column[string], `SELECT DISTINCT customer FROM customer_alert WHERE `+pending)
	if err != nil {
		return nil, fmt.Errorf("read pending alerts: %w", err)
	}
	return names, nil
}

// maxNotified is how many alerts one mail may list; it counts those beyond.
const maxNotified = 200

// notifyOne writes one mail for each contact of a customer about all pending alerts, and marks them notified in the same
// transaction.
func (b *Store) notifyOne(ctx context.Context, customer string, now time.Time) error {
	b.change.Lock() // an address that is being removed gets no mail
	defer b.change.Unlock()
	allowance, _, err := b.allowance(ctx, customer, now)
	if err != nil {
		return err
	}
	to, err := b.listeners(ctx, customer)
	if err != nil || len(to) > 0 && allowance < len(to) {
		return err // the alerts stay pending, and Waiting returns until when
	}
	b.write.Lock() // an alert that ends meanwhile is for the next mail
	defer b.write.Unlock()
	all, err := b.alerts(ctx, `WHERE customer = ? AND `+pending+` ORDER BY seq LIMIT ?`, customer, maxNotified)
	if err != nil || len(all) == 0 {
		return err
	}
	var n int
	if err := b.DB.QueryRowContext(ctx, `SELECT count(*) FROM customer_alert WHERE customer = ? AND `+pending, customer).Scan(&n); err != nil {
		return fmt.Errorf("count untold alerts: %w", err)
	}
	reportable := b.reportable(all)
	if len(to) == 0 || len(reportable) == 0 {
		return b.within(ctx, func(tx *sql.Tx) error { return markNotified(ctx, tx, customer, nobodyNotified) })
	}
	var mails []alert.CustomerMail
	for _, c := range to {
		mails = append(mails, b.alertMail(c, reportable, n-len(all)))
	}
	return b.Post(mails, func(conn *sql.Conn) error {
		for range mails {
			if err := act(ctx, conn, customer, aMessage, now); err != nil {
				return err
			}
		}
		return markNotified(ctx, conn, customer, now.UnixMilli())
	})
}

// listeners are the contacts that confirmed.
func (b *Store) listeners(ctx context.Context, customer string) (to []Contact, err error) {
	all, err := b.contactsOf(ctx, customer)
	for _, c := range all {
		if c.Confirmed {
			to = append(to, c)
		}
	}
	return to, err
}

// reportable leaves out events of a board at a time when it was not this customer's.
func (b *Store) reportable(all []Alert) (out []Alert) {
	for _, a := range all {
		if b.Owner(a.Board, a.FiredAt) != a.Customer {
			continue
		}
		if a.EndedAt != 0 && b.Owner(a.Board, a.EndedAt) != a.Customer {
			a.EndedAt = 0
			if a.notifiedFired != 0 {
				continue
			}
		}
		out = append(out, a)
	}
	return out
}

// markNotified notes that all of a customer's alerts are notified. The caller holds write, which keeps Settle out.
func markNotified(ctx context.Context, db execer, customer string, at int64) error {
	_, err := db.ExecContext(ctx, `UPDATE customer_alert SET notified_fired = CASE notified_fired WHEN 0 THEN ? ELSE notified_fired END,
		notified_ended = CASE WHEN ended_at > 0 AND notified_ended = 0 THEN ? ELSE notified_ended END WHERE customer = ? AND `+pending, at, at, customer)
	if err != nil {
		return fmt.Errorf("note that a customer was notified: %w", err)
	}
	return nil
}

// allowance is how many mails about alerts a customer may be sent now, and where that is none, when the next may leave.
func (b *Store) allowance(ctx context.Context, customer string, now time.Time) (n int, next time.Time, err error) {
	n = b.Limits.Daily
	for _, w := range []struct {
		limit  int
		window time.Duration
	}{{b.Limits.Hourly, hour}, {b.Limits.Daily, day}} {
		used, first, err := acts(ctx, b.DB, customer, aMessage, now.Add(-w.window))
		if err != nil {
			return 0, next, err
		}
		if left := w.limit - used; left <= 0 && first.Add(w.window).After(next) {
			next = first.Add(w.window)
		}
		n = min(n, max(0, w.limit-used))
	}
	return n, next, nil
}

// Waiting says how many alerts of a customer wait because of the limits, and until when; the zero time where none does.
func (b *Store) Waiting(ctx context.Context, customer string) (n int, until time.Time, err error) {
	row := b.DB.QueryRowContext(ctx, `SELECT count(*) FROM customer_alert WHERE customer = ? AND `+pending, customer)
	if err := row.Scan(&n); err != nil || n == 0 {
		return 0, until, err
	}
	_, until, err = b.allowance(ctx, customer, time.Now())
	return n, until, err
}
