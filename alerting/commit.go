package alerting

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
)

// committer runs writes in transactions, all that wait at one time in one: 500 pages at once must not cost 500 syncs.
type committer struct {
	db *sql.DB

	mu    sync.Mutex
	queue []*write
	busy  bool
}

// write is one unit; its function may run more than once.
type write struct {
	run  func(*sql.Conn) error
	done chan error
}

// do returns once run is committed, or with its error.
func (c *committer) do(run func(*sql.Conn) error) error {
	w := &write{run, make(chan error, 1)}
	c.mu.Lock()
	c.queue = append(c.queue, w)
	lead := !c.busy
	c.busy = true
	c.mu.Unlock()
	if lead {
		c.lead()
	}
	return <-w.done
}

// lead commits until nothing waits.
func (c *committer) lead() {
	for {
		c.mu.Lock()
		batch := c.queue
		c.queue = nil
		if len(batch) == 0 {
			c.busy = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		c.commit(batch)
	}
}

// commit commits a batch; where that fails, each alone, so that one bad write spoils no other.
func (c *committer) commit(batch []*write) {
	err := c.transact(batch)
	if err == nil || len(batch) == 1 {
		for _, w := range batch {
			w.done <- err
		}
		return
	}
	for _, w := range batch {
		w.done <- c.transact([]*write{w})
	}
}

func (c *committer) transact(batch []*write) (err error) {
	ctx := context.Background()
	conn, err := c.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("open alert database: %w", err)
	}
	defer conn.Close()
	// Immediate: a transaction that reads before it writes would else fail when another connection writes between.
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("begin alert transaction: %w", err)
	}
	defer func() {
		if err != nil {
			_, _ = conn.ExecContext(ctx, "ROLLBACK") // the first error is the one to tell
		}
	}()
	for _, w := range batch {
		if err := w.run(conn); err != nil {
			return err
		}
	}
	if _, err := conn.ExecContext(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("commit alert transaction: %w", err)
	}
	return nil
}
