package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// callWithin bounds what the stores do in one go, so that a server that is gone without a word is noticed.
const callWithin = 30 * time.Second

// runner is what statements are run on: a connection or a transaction.
type runner interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

type scanner interface{ Scan(...any) error }

// query calls each for each row.
func query(ctx context.Context, on runner, statement string, args []any, each func(scanner) error) (err error) {
	rows, err := on.QueryContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// exec returns how many rows were changed.
func exec(ctx context.Context, on runner, statement string, args ...any) (int64, error) {
	result, err := on.ExecContext(ctx, statement, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// write runs f in a transaction of READ COMMITTED. It is tried again when the server gives it up for no fault of its own. Any
// error but those that errors.go knows leaves open whether it was committed.
func (db *DB) write(ctx context.Context, f func(ctx context.Context, tx *sql.Tx) error) error {
	return again(ctx, isAccident, func() error { return db.writeOnce(ctx, f) })
}

func (db *DB) writeOnce(ctx context.Context, f func(ctx context.Context, tx *sql.Tx) error) error {
	soon, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	return db.transaction(ctx, func(tx *sql.Tx) error { return f(soon, tx) })
}

// transaction runs f in a transaction of READ COMMITTED. Its end is not bound to ctx: a context that is over rolls back what is
// not committed, and makes nothing uncertain that is.
func (db *DB) transaction(ctx context.Context, f func(tx *sql.Tx) error) error {
	whole, cancel := context.WithCancel(context.WithoutCancel(ctx)) // when it ends, database/sql rolls back
	defer cancel()
	within := func(d time.Duration, f func() error) error {
		defer time.AfterFunc(d, cancel).Stop()
		return f()
	}
	conn, tx, err := db.begin(ctx, func(conn *sql.Conn) (tx *sql.Tx, err error) {
		err = within(callWithin, func() error {
			tx, err = conn.BeginTx(whole, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
			return err
		})
		return tx, err
	})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()                    // gives it back
	defer func() { _ = within(callWithin, tx.Rollback) }() // after Commit it does nothing
	if err := errors.Join(f(tx), ctx.Err()); err != nil {
		return err
	}
	return within(callWithin, tx.Commit)
}

// begin takes a connection of the user's pool and begins a transaction. It passes over connections that are found to be dead.
func (db *DB) begin(ctx context.Context, begin func(*sql.Conn) (*sql.Tx, error)) (*sql.Conn, *sql.Tx, error) {
	for {
		conn, err := db.acquire(ctx)
		if err != nil {
			return nil, nil, err
		}
		tx, err := begin(conn)
		if err == nil {
			return conn, tx, nil
		}
		_ = conn.Close()
		if !isStale(err) {
			return nil, nil, err
		}
	}
}

// read runs statements that only read, each of which sees one state of the database: again if the connection is lost, as all of a
// pool are when the server restarts.
func (db *DB) read(ctx context.Context, f func(conn *sql.Conn) error) error {
	return again(ctx, func(err error) bool { return isAccident(err) || isLost(err) }, func() error {
		conn, err := db.acquire(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // gives it back
		return f(conn)
	})
}

// readRows reads the rows of a query into a slice.
func readRows[T any](ctx context.Context, db *DB, scan func(scanner) (T, error), statement string, args ...any) (all []T, err error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	err = db.read(ctx, func(conn *sql.Conn) error {
		all = nil
		return query(ctx, conn, db.sql(statement), args, func(row scanner) error {
			value, err := scan(row)
			all = append(all, value)
			return err
		})
	})
	return all, err
}

func (db *DB) acquire(ctx context.Context) (*sql.Conn, error) {
	within, cancel := context.WithTimeout(ctx, db.acquireWithin)
	defer cancel()
	conn, err := db.pool.Conn(within)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		s := db.pool.Stats()
		return nil, fmt.Errorf("%w: none came free within %s, %d of at most %d are in use: %w",
			ErrNoConnection, db.acquireWithin, s.InUse, s.MaxOpenConnections, err)
	}
	return conn, err
}

// ErrNoConnection says that the pool had no connection to give: it is too small for what is done with it, or the server does
// not answer.
var ErrNoConnection = errors.New("no connection of the pool")

// maxTries is how often something is tried that the server gives up for no fault of its own.
const maxTries = 6

// again runs f until it ends otherwise than by an accident of that kind.
func again(ctx context.Context, accident func(error) bool, f func() error) error {
	for try := 1; ; try++ {
		err := f()
		if isStale(err) { // it has left the pool; there are not endlessly many
			try--
		}
		if err == nil || !accident(err) || try == maxTries || !pause(ctx, try) {
			return err
		}
	}
}

// pause waits a little, and longer the more tries there have been.
func pause(ctx context.Context, try int) bool {
	t := time.NewTimer(time.Duration(rand.Int64N(int64(time.Millisecond) << min(max(try, 0), 6))))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
