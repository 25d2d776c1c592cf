package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// DB is a database in which the stores keep their tables. It borrows connections of the user's pool, one for a call, and owns
// nothing that has to be closed.
type DB struct {
	pool *pgxpool.Pool
	options

	prepares bool            // the pool's connections keep prepared statements
	tracer   pgx.BatchTracer // the pool's; nil: it has none

	expanded sync.Map    // SQL with placeholders -> without
	grown    atomic.Bool // see settings
}

// openWithin bounds how long Open waits: for the server, and for other processes that migrate.
const openWithin = time.Minute

// Open checks that the server keeps what it commits, and brings the tables up to date. The pool stays the user's: close it
// when nobody works on it any more. Any number of processes may open one database at once.
func Open(ctx context.Context, pool *pgxpool.Pool, opts ...Option) (*DB, error) {
	if pool == nil {
		return nil, errors.New("postgres: open: the pool is nil")
	}
	o, err := newOptions(opts)
	if err != nil {
		return nil, fmt.Errorf("postgres: open: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	db := &DB{pool: pool, options: o}
	config := pool.Config().ConnConfig
	db.prepares = config.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement
	db.tracer, _ = config.Tracer.(pgx.BatchTracer)
	for _, step := range []func(context.Context) error{db.checkServer, db.migrate, db.catchUp} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("postgres: open: %w", err)
		}
	}
	return db, nil
}

// ErrUnsafe says that the server may forget what it has committed: see [AcceptDataLoss].
var ErrUnsafe = errors.New("the server may forget what it has committed")

// checkServer refuses what would not work, or not be safe.
func (db *DB) checkServer(ctx context.Context) error {
	var version int
	var encoding, fsync, fullPages, synchronous string
	var standby bool
	err := db.pool.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),
		current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'), pg_is_in_recovery()`).
		Scan(&version, &encoding, &fsync, &fullPages, &synchronous, &standby)
	switch {
	case err != nil:
		return err
	case version < 130000:
		return fmt.Errorf("the server's version is %d, at least 13 is needed", version/10000)
	case encoding != "UTF8":
		return fmt.Errorf("the database's encoding is %s, UTF8 is needed", encoding)
	case standby:
		return errors.New("the server is a standby, which cannot be written to")
	}
	var off []string
	for name, value := range map[string]string{"fsync": fsync, "full_page_writes": fullPages, "synchronous_commit": synchronous} {
		if value == "off" {
			off = append(off, name)
		}
	}
	if len(off) > 0 && !db.unsafe {
		return fmt.Errorf("%w: %s is off (for tests there is AcceptDataLoss)", ErrUnsafe, strings.Join(off, ", "))
	}
	return nil
}

// opening runs f in a transaction: one process at a time, of those that open the same tables. Each statement sees what the one
// before has left, whatever the isolation of the user's sessions.
func (db *DB) opening(ctx context.Context, f func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, db.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
		const lock = `SELECT pg_advisory_xact_lock(hashtextextended('sagamill opens ' || $1, 0))`
		if _, err := tx.Exec(ctx, lock, db.sql("{{migrations}}")); err != nil {
			return err
		}
		return f(tx)
	})
}

// catchUp moves the sequence of fencing tokens beyond those on record. A database that is fed by logical replication, and some
// ways of copying tables, leave sequences behind.
func (db *DB) catchUp(ctx context.Context) error {
	var behind *bool
	const isBehind = `SELECT max(token) > (SELECT last_value FROM {{idempotency_token}})
		FROM (SELECT token FROM {{idempotency}} ORDER BY until DESC LIMIT 1000) latest`
	if err := db.pool.QueryRow(ctx, db.sql(isBehind)).Scan(&behind); err != nil || behind == nil || !*behind {
		return err
	}
	return db.opening(ctx, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, db.sql(isBehind)).Scan(&behind); err != nil || !*behind {
			return err
		}
		const move = `SELECT setval($1::regclass, 1000000 + (SELECT max(token) FROM {{idempotency}}))`
		_, err := tx.Exec(ctx, db.sql(move), db.sql("{{idempotency_token}}"))
		return err
	})
}

// sql puts the names of the tables into a statement.
func (db *DB) sql(text string) string {
	if known, ok := db.expanded.Load(text); ok {
		return known.(string)
	}
	expanded := db.expand(text)
	db.expanded.Store(text, expanded)
	return expanded
}
