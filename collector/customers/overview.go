package customers

import (
	"context"
	"database/sql"
	"fmt"

	"bramble/storage/statedb"
)

// Count counts one customer's settings, and the alerts that wait for a limit.
type Count struct {
	Thresholds, Contacts, Confirmed, Waiting int
}

// Counts reads those of all customers who have set something.
func Counts(ctx context.Context, db *sql.DB) (map[string]Count, error) {
	all := map[string]Count{}
	err := statedb.Each(ctx, db, func(row *sql.Rows) error {
		var name string
		var n Count
		err := row.Scan(&name, &n.Thresholds, &n.Contacts, &n.Confirmed, &n.Waiting)
		all[name] = n
		return err
	}, `
		SELECT customer, sum(t), sum(c), sum(f), sum(w) FROM (
			SELECT customer, count(*) AS t, 0 AS c, 0 AS f, 0 AS w FROM customer_threshold GROUP BY customer
			UNION ALL SELECT customer, 0, count(*), sum(confirmed_at > 0), 0 FROM customer_contact GROUP BY customer
			UNION ALL SELECT customer, 0, 0, 0, count(*) FROM customer_alert WHERE `+pending+` GROUP BY customer
		) GROUP BY customer`)
	if err != nil {
		return nil, fmt.Errorf("count what customers have set: %w", err)
	}
	return all, nil
}

// Allow lets an address be asked again that wanted no mail. It wraps ErrNotFound where it never said so.
func Allow(ctx context.Context, db *sql.DB, who, text string) error {
	address, err := ParseAddress(text)
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("allow address: %w", err)
	}
	defer tx.Rollback()
	r, err := tx.ExecContext(ctx, `DELETE FROM customer_refusal WHERE address = ?`, addressKey(address))
	if err != nil {
		return fmt.Errorf("allow address: %w", err)
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return fmt.Errorf("%w: %s has not refused mails", ErrNotFound, address)
	}
	if err := note(ctx, tx, who, "allow address", address, ""); err != nil {
		return err
	}
	return tx.Commit()
}
