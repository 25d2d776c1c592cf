package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// All that the stores do is done in pipelines: the statements of a transaction, BEGIN and COMMIT included, go to the server in
// one round trip.

// callWithin bounds one pipeline, so that a server that is gone without a word is noticed.
const callWithin = 30 * time.Second

// write runs the statements that queue adds in a transaction of their own. Statements wait for locks no longer than lockTimeout.
// What the callbacks of statements have read counts only if the error is nil. After one of SQLSTATE (see errors.go)
// nothing has been written; after any other nobody knows.
func (db *DB) write(ctx context.Context, lockTimeout time.Duration, queue func(*pgx.Batch)) error {
	return db.pipeline(ctx, func(b *pgx.Batch) {
		b.BeginTx(pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
		db.queueSettings(b, lockTimeout, db.grown.Load())
		queue(b)
		b.Queue("commit")
	})
}

// writeAgain is write for what may simply be done again when the server gives it up.
func (db *DB) writeAgain(ctx context.Context, lockTimeout time.Duration, queue func(*pgx.Batch)) error {
	return again(ctx, isAccident, func() error { return db.write(ctx, lockTimeout, queue) })
}

// reading is read or browse: both run statements that only read, again if the connection is lost, as all of a pool are when the
// server restarts. Each statement sees one state of the database.
type reading func(ctx context.Context, queue func(*pgx.Batch)) error

// read is for statements of which the plan is known.
func (db *DB) read(ctx context.Context, queue func(*pgx.Batch)) error {
	return db.readPlanned(ctx, db.grown.Load(), queue)
}

// browse is for those of which the planner knows best: what people look for.
func (db *DB) browse(ctx context.Context, queue func(*pgx.Batch)) error {
	return db.readPlanned(ctx, false, queue)
}

func (db *DB) readPlanned(ctx context.Context, generic bool, queue func(*pgx.Batch)) error {
	for try, tries := 1, maxTries; ; try++ {
		err := db.pipeline(ctx, func(b *pgx.Batch) {
			db.queueSettings(b, db.lockTimeout, generic)
			queue(b)
		})
		if isLost(err) && !isUnreachable(err) {
			tries = maxTries + int(db.pool.Stat().MaxConns()) // each of the pool's may have been closed by the server
		}
		if err == nil || !isAccident(err) && !isLost(err) || try >= tries || !pause(ctx, min(try, maxTries)) {
			return err
		}
	}
}

// queueRows queues a statement whose rows are read into a slice, instead of what is in it.
func queueRows[T any](b *pgx.Batch, into *[]T, scan func(scanner) (T, error), sql string, args ...any) {
	*into = nil
	b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			value, err := scan(rows)
			if err != nil {
				return err
			}
			*into = append(*into, value)
		}
		return rows.Err()
	})
}

// settings hold until the end of the transaction. The plans are to look rows up by index, in the order of the arrays, whatever the
// planner thinks of the size of a table, which it learns minutes late. A generic plan does that, and saves planning, once
// the table is not tiny; while it is, plans are made anew each time.
const settings = `SELECT set_config('lock_timeout', $1, true), set_config('plan_cache_mode', $2, true),
	set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
	set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true),
	CASE WHEN $3::bool THEN 0 ELSE pg_relation_size($4::text::regclass) END`

// grownSize is the size of the table of instances from which on generic plans are good.
const grownSize = 128 << 10

func (db *DB) queueSettings(b *pgx.Batch, lockTimeout time.Duration, generic bool) {
	b.Queue(settings, lockWait(lockTimeout), planMode(generic), db.grown.Load(), db.sql("{{instances}}")).QueryRow(db.readSettings)
}

func lockWait(timeout time.Duration) string {
	return fmt.Sprintf("%dms", max(1, timeout.Milliseconds()))
}

func planMode(generic bool) string {
	if generic {
		return "force_generic_plan"
	}
	return "force_custom_plan"
}

// readSettings looks at how large the table is.
func (db *DB) readSettings(row pgx.Row) error {
	var ignored string
	var size int64
	if err := row.Scan(&ignored, &ignored, &ignored, &ignored, &ignored, &ignored, &ignored, &size); err != nil {
		return err
	}
	if size >= grownSize {
		db.grown.Store(true)
	}
	return nil
}

func (db *DB) pipeline(ctx context.Context, queue func(*pgx.Batch)) error {
	b := &pgx.Batch{}
	queue(b)
	return db.onConn(ctx, func(ctx context.Context, conn *pgx.Conn) error { return conn.SendBatch(ctx, b).Close() })
}

// onConn lends f a connection, for one pipeline.
func (db *DB) onConn(ctx context.Context, f func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	conn, err := db.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	err = f(ctx, conn.Conn())
	if err != nil && conn.Conn().PgConn().TxStatus() == 'E' {
		// The server has skipped the COMMIT. If this fails, too, the pool drops the connection.
		_, _ = conn.Exec(ctx, "rollback")
	}
	if isUnprepared(err) { // what the driver believes to be prepared is not
		_ = conn.Conn().DeallocateAll(ctx)
	}
	return err
}

// acquire takes a connection of the user's pool, which the user may have used up.
func (db *DB) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	within, cancel := context.WithTimeout(ctx, db.acquireWithin)
	defer cancel()
	conn, err := db.pool.Acquire(within)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		s := db.pool.Stat()
		return nil, fmt.Errorf("%w: none came free within %s, %d of at most %d are in use: %w",
			ErrNoConnection, db.acquireWithin, s.AcquiredConns(), s.MaxConns(), err)
	}
	return conn, err
}

// ErrNoConnection says that the pool had no connection to give: it is too small for what is done with it, or the server does
// not answer.
var ErrNoConnection = errors.New("no connection of the pool")

// maxTries is how often a transaction is tried that the server gives up for no fault of its own.
const maxTries = 6

// again runs f until it ends otherwise than by an accident of that kind.
func again(ctx context.Context, accident func(error) bool, f func() error) error {
	for try := 1; ; try++ {
		err := f()
		if err == nil || !accident(err) || try == maxTries || !pause(ctx, try) {
			return err
		}
	}
}

// pause waits a little, and longer the more tries there have been.
func pause(ctx context.Context, try int) bool {
	t := time.NewTimer(time.Duration(rand.Int64N(int64(time.Millisecond) << min(try, 6))))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// transaction runs f in a transaction whose statements depend on each other, and again if the server gives it up for no fault of
// its own. The settings of the session are left alone.
func (db *DB) transaction(ctx context.Context, f func(tx pgx.Tx) error) error {
	return again(ctx, isAccident, func() error {
		conn, err := db.acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		soon, cancel := context.WithTimeout(ctx, callWithin)
		defer cancel()
		tx, err := conn.BeginTx(soon, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
		if err != nil {
			return err
		}
		idle := func() bool { return conn.Conn().PgConn().TxStatus() == 'I' }
		defer func() {
			if !idle() {
				rollback(ctx, tx)
			}
		}()
		if err := f(tx); err != nil {
			return err
		}
		if idle() {
			return nil // f has committed, with its last statements
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), callWithin)
		defer cancel()
		return tx.Commit(within) // from here on a context that ends makes nothing uncertain
	})
}

// rollback ends a transaction also if its context is over, so that the connection can be used again.
func rollback(ctx context.Context, tx pgx.Tx) {
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = tx.Rollback(within)
}
