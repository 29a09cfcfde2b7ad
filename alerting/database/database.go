package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Writer runs writes in transactions, all that wait at one time in one: 500 pages at once must not cost 500 syncs.
type Writer struct {
	// DB is for reading; writes go through Do.
	DB *sql.DB

	mu    sync.Mutex
	queue []*write
	busy  bool
}

// NewWriter returns a Writer for a database.
func NewWriter(db *sql.DB) *Writer { return &Writer{DB: db} }

// write is one unit; its function may run more than once.
type write struct {
	run  func(*sql.Conn) error
	done chan error
}

// Do returns once run is committed, or with its error. A panic of run costs its own transaction alone: it is taken back, and the
// panic goes on from Do, in the goroutine of its caller, with a *Fault.
func (c *Writer) Do(run func(*sql.Conn) error) error {
	w := &write{run, make(chan error, 1)}
	c.mu.Lock()
	c.queue = append(c.queue, w)
	lead := !c.busy
	c.busy = true
	c.mu.Unlock()
	if lead {
		c.lead()
	}
	err := <-w.done
	if fault := (*Fault)(nil); errors.As(err, &fault) {
		panic(fault)
	}
	return err
}

// Fault is the panic of a write.
type Fault struct {
	Value any
	Stack []byte // of the goroutine that ran the write
}

// Error implements error.
func (f *Fault) Error() string { return fmt.Sprintf("%v\n%s", f.Value, f.Stack) }

// safely calls run; a panic becomes a *Fault.
func safely(run func(*sql.Conn) error, conn *sql.Conn) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &Fault{v, debug.Stack()}
		}
	}()
	return run(conn)
}

// lead commits until nothing waits.
func (c *Writer) lead() {
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
func (c *Writer) commit(batch []*write) {
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

func (c *Writer) transact(batch []*write) (err error) {
	ctx := context.Background()
	conn, err := c.DB.Conn(ctx)
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
		if err := safely(w.run, conn); err != nil {
			return err
		}
	}
	if _, err := conn.ExecContext(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("commit alert transaction: %w", err)
	}
	return nil
}

// Querier is the common part of a database, a connection and a transaction.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Keep is how long resolved incidents and their pages stay: 13 months, as series do by default.
const Keep = 395 * 24 * time.Hour

// Prepared is a Querier that keeps its queries compiled: for those of every page, compiling takes longer than answering. The texts must be few and fixed. Safe for concurrent use.
type Prepared struct {
	db *sql.DB

	mu  sync.Mutex
	all map[string]*sql.Stmt // by text
}

// NewPrepared returns a Prepared for a database.
func NewPrepared(db *sql.DB) *Prepared { return &Prepared{db: db} }

// QueryContext is that of sql.DB.
func (s *Prepared) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	st, err := s.of(ctx, text) //nolint:sqlclosecheck // it is kept until close
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, args...)
}

// ExecContext is that of sql.DB.
func (s *Prepared) ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error) {
	st, err := s.of(ctx, text) //nolint:sqlclosecheck // it is kept until close
	if err != nil {
		return nil, err
	}
	return st.ExecContext(ctx, args...)
}

func (s *Prepared) of(ctx context.Context, text string) (*sql.Stmt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.all[text]; st != nil {
		return st, nil
	}
	st, err := s.db.PrepareContext(ctx, text) //nolint:sqlclosecheck // it is kept until close
	if err != nil {
		return nil, err
	}
	if s.all == nil {
		s.all = map[string]*sql.Stmt{}
	}
	s.all[text] = st
	return st, nil
}

// Close closes the compiled queries.
func (s *Prepared) Close() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.all {
		err = errors.Join(err, st.Close())
	}
	clear(s.all)
	return err
}
