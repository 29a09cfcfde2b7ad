package digest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"bramble/collector/schedule"
)

const (
	// lookEvery is how often it is asked whether a digest is due.
	lookEvery = 5 * time.Second
	// lateBy is how late a digest is still written after a downtime; later, the next one is near.
	lateBy = 20 * time.Hour
	// firstWait and longestWait bound the time between tries, which doubles.
	firstWait, longestWait = time.Minute, 30 * time.Minute
	// keep is how long digests stay on record.
	keep = 60 * 24 * time.Hour
)

// Mail is a digest as it is sent.
type Mail struct {
	ID, Subject, Text, HTML string
}

// Options configure a Keeper. All are needed.
type Options struct {
	DB       *sql.DB
	Schedule schedule.Schedule
	// Report collects the facts of the time between two digests.
	Report func(ctx context.Context, from, to time.Time) (Report, error)
	Send   func(ctx context.Context, m Mail) error
	Log    *slog.Logger
}

// Keeper writes and sends digests.
type Keeper struct{ Options }

// New makes a keeper over tables as statedb makes them.
func New(o Options) *Keeper { return &Keeper{o} }

// Run writes and sends until ctx ends. An error is logged once, and the step is tried again.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	failing := false
	for now := time.Now(); ; {
		err := k.step(ctx, now)
		if (err != nil) != failing && ctx.Err() == nil {
			failing = err != nil
			k.Log.Warn("digest", "failing", failing, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case now = <-tick.C:
		}
	}
}

// step writes the digest that is due, and sends those that wait.
func (k *Keeper) step(ctx context.Context, now time.Time) error {
	return errors.Join(k.write(ctx, now), k.send(ctx, now))
}

// write puts the digest that is due on record, once.
func (k *Keeper) write(ctx context.Context, now time.Time) error {
	due := k.Schedule.Last(now)
	if now.Sub(due) > lateBy {
		return nil
	}
	var known, first int
	if err := k.DB.QueryRowContext(ctx, `SELECT count(*) FROM digest WHERE due >= ?`, due.UnixMilli()).Scan(&known); err != nil || known > 0 {
		return err
	}
	if err := k.DB.QueryRowContext(ctx, `SELECT count(*) FROM digest`).Scan(&first); err != nil {
		return err
	}
	m, state := Mail{}, "waiting"
	if first == 0 {
		state = "skipped" // nothing is known of the time before the first one: begin with the next
	} else {
		report, err := k.Report(ctx, k.Schedule.Last(due.Add(-time.Second)), due)
		if err != nil {
			return fmt.Errorf("collect the digest: %w", err)
		}
		if m, err = report.mail(newID(due)); err != nil {
			return fmt.Errorf("write the digest: %w", err)
		}
	}
	tx, err := k.DB.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("write the digest: %w", err)
	}
	defer tx.Rollback()
	for _, s := range []struct {
		query string
		args  []any
	}{
		{`UPDATE digest SET state = 'failed' WHERE state = 'waiting'`, nil}, // yesterday's: today's mail covers it
		{`DELETE FROM digest WHERE due < ?`, []any{now.Add(-keep).UnixMilli()}},
		{`INSERT INTO digest (due, id, subject, body, html, state, next_at) VALUES (?,?,?,?,?,?,?)`,
			[]any{due.UnixMilli(), m.ID, m.Subject, m.Text, m.HTML, state, now.UnixMilli()}},
	} {
		if _, err := tx.ExecContext(ctx, s.query, s.args...); err != nil {
			return fmt.Errorf("write the digest: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("write the digest: %w", err)
	}
	return nil
}

// newID is a Message-Id that no other mail has.
func newID(due time.Time) string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never errs
	return fmt.Sprintf("<digest-%s-%s@bramble.invalid>", due.UTC().Format("20060102"), hex.EncodeToString(b[:]))
}

// send tries the digest that waits, if it is time to.
func (k *Keeper) send(ctx context.Context, now time.Time) error {
	var (
		m        Mail
		due      int64
		attempts int
	)
	row := k.DB.QueryRowContext(ctx, `SELECT due, id, subject, body, html, attempts FROM digest WHERE state = 'waiting' AND next_at <= ? ORDER BY due DESC LIMIT 1`, now.UnixMilli())
	if err := row.Scan(&due, &m.ID, &m.Subject, &m.Text, &m.HTML, &attempts); errors.Is(err, sql.ErrNoRows) {
		return nil
	} else if err != nil {
		return fmt.Errorf("read the digest: %w", err)
	}
	sendErr := k.Send(ctx, m)
	if sendErr != nil && ctx.Err() != nil {
		return nil // interrupted by the stop, not refused
	}
	state, answer, sent := "sent", "accepted", now.UnixMilli()
	if sendErr != nil {
		state, answer, sent = "waiting", sendErr.Error(), 0
	}
	next := now.Add(min(firstWait<<min(attempts, 10), longestWait)).UnixMilli()
	_, err := k.DB.ExecContext(context.WithoutCancel(ctx), `UPDATE digest SET state = ?, attempts = ?, next_at = ?, answer = ?, sent_at = ? WHERE due = ?`,
		state, attempts+1, next, answer, sent, due)
	if err != nil {
		err = fmt.Errorf("record the digest: %w", err)
	}
	if sendErr != nil {
		sendErr = fmt.Errorf("send the digest: %w", sendErr)
	}
	return errors.Join(sendErr, err)
}
