package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/sagamill/sagamill/saga"
)

// SQLInbox is an [Inbox] whose handlers get a transaction of database/sql. It works on the same tables, and is otherwise the
// same: what one of them has recorded the other one knows.
type SQLInbox struct {
	db   *DB
	pool *sql.DB
}

var _ saga.Inbox[*sql.Tx] = (*SQLInbox)(nil)

// NewSQLInbox makes an inbox in db whose handlers work on connections of pool. That is a pool of the same database, on the driver
// github.com/jackc/pgx/v5/stdlib; stdlib.OpenDBFromPool makes one of the pool that db has. It stays the user's.
func NewSQLInbox(db *DB, pool *sql.DB) *SQLInbox { return &SQLInbox{db, pool} }

// Handle implements saga.Inbox. The handler must leave tx open; a savepoint named sagamill_inbox is around it.
func (i *SQLInbox) Handle(ctx context.Context, effect saga.Effect, handle func(context.Context, *sql.Tx) ([]byte, error)) (reply saga.Reply, err error) {
	if err := ctx.Err(); err != nil {
		return saga.Reply{}, err
	}
	err = again(ctx, isAccident, func() error {
		return i.transaction(ctx, func(tx *sql.Tx, below *pgx.Conn) (err error) {
			h := handling{db: i.db, tx: below, effect: effect}
			reply, err = h.run(ctx, func() ([]byte, error) { return handle(ctx, tx) })
			return err
		})
	})
	if err != nil {
		return saga.Reply{}, fmt.Errorf("postgres: handle: %w", err)
	}
	return reply, nil
}

// Expire is [Inbox.Expire].
func (i *SQLInbox) Expire(ctx context.Context, olderThan time.Duration, limit int) (removed int, err error) {
	return NewInbox(i.db).Expire(ctx, olderThan, limit)
}

// transaction runs f in a transaction, with the connection that it is on.
func (i *SQLInbox) transaction(ctx context.Context, f func(tx *sql.Tx, below *pgx.Conn) error) (err error) {
	conn, err := i.acquire(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // gives it back
	var below *pgx.Conn
	err = conn.Raw(func(driverConn any) error {
		c, ok := driverConn.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("the pool of the inbox is on the driver %T: it must be github.com/jackc/pgx/v5/stdlib", i.pool.Driver())
		}
		below = c.Conn()
		return nil
	})
	if err != nil {
		return err
	}
	// The context of BeginTx is that of the whole transaction: database/sql rolls back when it ends, and what a handler does is
	// bounded by its own.
	whole, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	within := func(f func() error) error {
		t := time.AfterFunc(callWithin, cancel)
		defer t.Stop()
		return f()
	}
	var tx *sql.Tx
	err = within(func() (err error) {
		tx, err = conn.BeginTx(whole, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
		return err
	})
	if err != nil {
		return err
	}
	defer func() { _ = within(tx.Rollback) }() // after Commit it does nothing
	if err := errors.Join(f(tx, below), ctx.Err()); err != nil {
		return err
	}
	return within(tx.Commit)
}

// acquire takes a connection of the user's pool.
func (i *SQLInbox) acquire(ctx context.Context) (*sql.Conn, error) {
	within, cancel := context.WithTimeout(ctx, i.db.acquireWithin)
	defer cancel()
	conn, err := i.pool.Conn(within)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		s := i.pool.Stats()
		return nil, fmt.Errorf("%w: none came free within %s, %d of at most %d are in use: %w",
			ErrNoConnection, i.db.acquireWithin, s.InUse, s.MaxOpenConnections, err)
	}
	return conn, err
}
