package statedb

import (
	"context"
	"database/sql"
)

// Querier is the reading part of a database, a connection and a transaction.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Each calls f for each row of a query's answer. It returns the first error, of the query, of f or of
// reading on.
func Each(ctx context.Context, q Querier, f func(row *sql.Rows) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// All returns the value that scan reads from each row of a query's answer, nil where there is none.
func All[T any](ctx context.Context, q Querier, scan func(row *sql.Rows) (T, error), query string, args ...any) (all []T, err error) {
	err = Each(ctx, q, func(row *sql.Rows) error {
		v, err := scan(row)
		all = append(all, v)
		return err
	}, query, args...)
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Column reads a row that has one column, for All.
func Column[T any](row *sql.Rows) (v T, err error) {
	err = row.Scan(&v)
	return v, err
}
