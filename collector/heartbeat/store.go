package heartbeat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"bramble/storage/statedb"
)

// pauseAfter is by how much the process must be late to have been stopped.
const pauseAfter = 5 * time.Second

func (b *Store) load(ctx context.Context) error {
	err := statedb.Each(ctx, b.db, func(row *sql.Rows) error {
		var (
			h      Heartbeat
			within int64
		)
		if err := row.Scan(&h.Name, &h.Board, &h.Message, &h.By, &within, &h.CreatedAt, &h.LastAt, &h.excused, &h.removed); err != nil {
			return err
		}
		h.within = time.Duration(within) * time.Millisecond
		b.all[h.Name] = &h
		return nil
	}, `SELECT name, board, message, sent_by, within, created_at, last_at, excused, removed_at FROM heartbeat`)
	if err != nil {
		return fmt.Errorf("read heartbeats: %w", err)
	}
	return nil
}

func (b *Store) save(ctx context.Context, h *Heartbeat) error {
	_, err := b.db.ExecContext(ctx, `INSERT OR REPLACE INTO heartbeat (name, board, message, sent_by, within, created_at, last_at, excused, removed_at)
		VALUES (?,?,?,?,?,?,?,?,?)`, h.Name, h.Board, h.Message, h.By, h.within.Milliseconds(), h.CreatedAt, h.LastAt, h.excused, h.removed)
	if err != nil {
		return fmt.Errorf("write heartbeat %s: %w", h.Name, err)
	}
	return nil
}

// excuse adds the time for which no collector ran to every deadline that had not passed when it went away, and at least the
// start's own grace: an overdue heartbeat stays overdue. The clock may have been set back meanwhile: then only that grace is
// added.
func (b *Store) excuse(ctx context.Context, now int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var alive int64
	err := b.db.QueryRowContext(ctx, `SELECT at FROM heartbeat_alive`).Scan(&alive)
	if errors.Is(err, sql.ErrNoRows) {
		return b.alive(ctx, now)
	}
	if err != nil {
		return fmt.Errorf("read when the collector last ran: %w", err)
	}
	away, grace := max(now-alive, 0), now+startGrace.Milliseconds()
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("excuse heartbeats: %w", err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `UPDATE heartbeat SET excused = max(excused + ?, ? - last_at - within)
		WHERE last_at + within + excused > ?`, away, grace, alive); err != nil {
		return fmt.Errorf("excuse heartbeats: %w", err)
	}
	// With the excuse in one transaction: a crash right after the start excuses nothing twice.
	if _, err := tx.ExecContext(ctx, `UPDATE heartbeat_alive SET at = ?`, now); err != nil {
		return fmt.Errorf("note that the collector runs: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("excuse heartbeats: %w", err)
	}
	return b.load(ctx)
}

func (b *Store) alive(ctx context.Context, now int64) error {
	_, err := b.db.ExecContext(ctx, `INSERT OR REPLACE INTO heartbeat_alive (one, at) VALUES (1, ?)`, now)
	if err != nil {
		return fmt.Errorf("note that the collector runs: %w", err)
	}
	return nil
}

// Run notes that the collector runs, and forgets removed heartbeats, until ctx ends.
func (b *Store) Run(ctx context.Context, log *slog.Logger) error {
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	last := b.now()
	for failing := false; ; {
		if away := b.now() - last - aliveEvery.Milliseconds(); away > pauseAfter.Milliseconds() { // SIGSTOP, a frozen machine
			if err := b.excuse(ctx, b.now()); err != nil {
				log.Warn("heartbeats after a pause of the process", "err", err)
			}
		}
		last = b.now()
		err := errors.Join(b.alive(ctx, b.now()), b.forget(ctx))
		if (err != nil) != failing && ctx.Err() == nil {
			failing = err != nil
			log.Warn("heartbeats", "written", err == nil, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// forget drops heartbeats that were removed a while ago.
func (b *Store) forget(ctx context.Context) error {
	before := b.now() - keepRemoved.Milliseconds()
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, h := range b.all {
		if h.removed == 0 || h.removed > before {
			continue
		}
		if _, err := b.db.ExecContext(ctx, `DELETE FROM heartbeat WHERE name = ?`, name); err != nil {
			return fmt.Errorf("forget heartbeat %s: %w", name, err)
		}
		delete(b.all, name)
	}
	return nil
}
