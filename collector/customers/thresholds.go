package customers

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"
	"time"

	"bramble/alerting/rules"
	"bramble/storage/statedb"
)

const (
	// maxWait bounds how long a condition may have to hold, or not to hold.
	maxWait = day
	// minKeep bounds how often an alert can begin: a board's owner decides which readings it reports.
	minKeep = 10 * time.Second
)

// Check validates a threshold. Values are in base units.
func Check(t rules.Threshold) error {
	kind, ok := rules.KindOf(t.Kind)
	if !ok {
		var names []string
		for _, k := range rules.ThresholdKinds {
			names = append(names, k.Name)
		}
		return fmt.Errorf("%w: kind %.32q: use %s", ErrBad, t.Kind, strings.Join(names, ", "))
	}
	switch {
	case math.IsNaN(t.Value) || t.Value < kind.Min || t.Value > kind.Max:
		if kind.Fixed {
			return fmt.Errorf("%w: value %v: a threshold of kind %s has none", ErrBad, t.Value, kind.Name)
		}
		return fmt.Errorf("%w: value %v: %s takes %v to %v", ErrBad, t.Value, kind.Name, kind.Min, kind.Max)
	case math.IsNaN(t.Hysteresis) || t.Hysteresis < 0 || t.Hysteresis > kind.MaxHysteresis:
		return fmt.Errorf("%w: hysteresis %v: %s takes 0 to %v", ErrBad, t.Hysteresis, kind.Name, kind.MaxHysteresis)
	case t.For < 0 || t.For > maxWait:
		return fmt.Errorf("%w: for %s: use 0s to %s", ErrBad, t.For, maxWait)
	case t.KeepFiringFor < minKeep || t.KeepFiringFor > maxWait:
		return fmt.Errorf("%w: keepFiringFor %s: use %s to %s", ErrBad, t.KeepFiringFor, minKeep, maxWait)
	}
	return nil
}

// SetThreshold sets or replaces one. A board must be the customer's.
func (b *Store) SetThreshold(ctx context.Context, customer, who string, t rules.Threshold) error {
	if err := Check(t); err != nil {
		return err
	}
	if t.Board != "" && b.Owner(t.Board, time.Now().UnixMilli()) != customer {
		return fmt.Errorf("%w: no board of yours is named %.64q", ErrNotFound, t.Board)
	}
	return b.changeThresholds(ctx, customer, func(tx *sql.Tx, now time.Time) error {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO customer_threshold VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			customer, t.Kind, t.Board, t.Value, t.Hysteresis, t.For.Milliseconds(), t.KeepFiringFor.Milliseconds(), who, now.UnixMilli())
		if err != nil {
			return fmt.Errorf("write threshold: %w", err)
		}
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM customer_threshold WHERE customer = ?`, customer).Scan(&n); err != nil {
			return fmt.Errorf("count thresholds: %w", err)
		}
		if n > b.Limits.Thresholds {
			return fmt.Errorf("%w: %d thresholds are the most: remove one, or set one for all boards", ErrBad, b.Limits.Thresholds)
		}
		return note(ctx, tx, who, "set threshold", customer, fmt.Sprintf("%s %s %v", t.Kind, t.Board, t.Value))
	})
}

// RemoveThreshold removes one; its alerts end.
func (b *Store) RemoveThreshold(ctx context.Context, customer, who, kind, board string) error {
	return b.changeThresholds(ctx, customer, func(tx *sql.Tx, _ time.Time) error {
		r, err := tx.ExecContext(ctx, `DELETE FROM customer_threshold WHERE customer = ? AND kind = ? AND board = ?`, customer, kind, board)
		if err != nil {
			return fmt.Errorf("remove threshold: %w", err)
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return fmt.Errorf("%w: no threshold of kind %.32q is set for board %.64q", ErrNotFound, kind, board)
		}
		return note(ctx, tx, who, "remove threshold", customer, kind+" "+board)
	})
}

// changeThresholds changes the table, then the thresholds in force. After a kill between them the table holds: Open reads
// it.
func (b *Store) changeThresholds(ctx context.Context, customer string, run func(tx *sql.Tx, now time.Time) error) error {
	b.change.Lock()
	defer b.change.Unlock()
	now := time.Now()
	err := b.within(ctx, func(tx *sql.Tx) error {
		if err := spend(ctx, tx, customer, aChange, b.Limits.Changes, hour, now); err != nil {
			return err
		}
		return run(tx, now)
	})
	if err != nil {
		return err
	}
	all, err := thresholds(ctx, b.DB, customer)
	if err != nil {
		return err
	}
	return b.Commit(b.Options.SetThresholds(customer, all[customer]))
}

// Thresholds lists those of a customer.
func (b *Store) Thresholds(ctx context.Context, customer string) ([]rules.Threshold, error) {
	all, err := thresholds(ctx, b.DB, customer)
	return all[customer], err
}

// thresholds reads those of one customer, or of all with "".
func thresholds(ctx context.Context, db *sql.DB, customer string) (map[string][]rules.Threshold, error) {
	all := map[string][]rules.Threshold{}
	err := statedb.Each(ctx, db, func(row *sql.Rows) error {
		var (
			c         string
			t         rules.Threshold
			wait, end int64
		)
		err := row.Scan(&c, &t.Kind, &t.Board, &t.Value, &t.Hysteresis, &wait, &end)
		t.For, t.KeepFiringFor = time.Duration(wait)*time.Millisecond, time.Duration(end)*time.Millisecond
		all[c] = append(all[c], t)
		return err
	}, `SELECT customer, kind, board, value, hysteresis, for_ms, keep_ms FROM customer_threshold
		WHERE ? IN ('', customer) ORDER BY customer, kind, board`, customer)
	if err != nil {
		return nil, fmt.Errorf("read thresholds: %w", err)
	}
	return all, nil
}
