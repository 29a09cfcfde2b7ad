package alerting

import (
	"context"
	"database/sql"
	"errors"
	"sync"
)

// statements is a querier that keeps what it was asked compiled: for what every page asks, compiling takes longer than
// answering. The texts must be few and fixed. Safe for concurrent use.
type statements struct {
	db *sql.DB

	mu  sync.Mutex
	all map[string]*sql.Stmt // by text
}

// QueryContext is that of sql.DB.
func (s *statements) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	st, err := s.of(ctx, text) //nolint:sqlclosecheck // it is kept until close
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, args...)
}

// ExecContext is that of sql.DB.
func (s *statements) ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error) {
	st, err := s.of(ctx, text) //nolint:sqlclosecheck // it is kept until close
	if err != nil {
		return nil, err
	}
	return st.ExecContext(ctx, args...)
}

func (s *statements) of(ctx context.Context, text string) (*sql.Stmt, error) {
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

func (s *statements) close() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.all {
		err = errors.Join(err, st.Close())
	}
	clear(s.all)
	return err
}
