package mysql

import "database/sql"

// WithClock takes the time, in microseconds since 1970, from an expression instead of the server's clock.
func WithClock(expression string) Option { return func(o *options) { o.now = expression } }

// Pool is the user's.
func (s *Store) Pool() *sql.DB { return s.db.pool }
