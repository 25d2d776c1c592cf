package sqlite

import (
	"context"
	"database/sql"
)

// statements runs prepared statements in a transaction.
type statements struct {
	db    *DB
	tx    *sql.Tx
	bound map[string]*sql.Stmt
}

func (s *statements) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if stmt := s.bound[query]; stmt != nil {
		return stmt, nil
	}
	prepared, err := s.db.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	if s.bound == nil {
		s.bound = map[string]*sql.Stmt{}
	}
	stmt := s.tx.StmtContext(ctx, prepared) // closed with the transaction; what is prepared stays
	s.bound[query] = stmt
	return stmt, nil
}

// exec returns the number of rows written.
func (s *statements) exec(ctx context.Context, query string, args ...any) (int64, error) {
	stmt, err := s.stmt(ctx, query)
	if err != nil {
		return 0, err
	}
	result, err := stmt.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (s *statements) query(ctx context.Context, query string, args []any, each func(*sql.Rows) error) error {
	stmt, err := s.stmt(ctx, query)
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(ctx, args...)
	return eachRow(rows, err, each)
}

// flushHistory writes what is left of the history, and forgets it.
func (c *committing) flushHistory(ctx context.Context) error {
	left := c.history
	for i := len(insertHistory) - 1; i >= 0; i-- {
		for n := historyColumns << i; len(left) >= n; left = left[n:] {
			if _, err := c.exec(ctx, insertHistory[i], left[:n]...); err != nil {
				return err
			}
		}
	}
	c.history = c.history[:0]
	return nil
}
