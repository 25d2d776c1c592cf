// Package data is where a service keeps its tables. Each has a file, or a schema, of its own, which nobody else opens. The SQL of
// the services is what SQLite and PostgreSQL understand; for MySQL it is translated.
package data

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/saga"
)

// Main is the service whose database is the one that --store names.
const Main = "order"

// DB is a service's database: for reading, and through Write for writing.
type DB struct {
	*sql.DB
	Inbox Inbox
	Sagas saga.Store
	Keys  idempotency.Store

	close      func() error
	write      func(ctx context.Context, f func(*sql.Tx) error) error
	makeTables func(ctx context.Context, ddl string) error
	words      *strings.Replacer // what the dialects call differently
}

// Inbox is the barrier of the service's participant.
type Inbox interface {
	saga.Inbox[*sql.Tx]
	Expire(ctx context.Context, olderThan time.Duration, limit int) (removed int, err error)
}

// Open opens the database of a service, by the flag --store.
func Open(ctx context.Context, store, service string) (db *DB, err error) {
	if err = Check(store); err != nil {
		return nil, err
	}
	if path, ok := strings.CutPrefix(store, "sqlite:"); ok {
		db, err = openSQLite(path, service)
	} else if strings.HasPrefix(store, "mysql://") {
		db, err = openMySQL(ctx, store, service)
	} else {
		db, err = openPostgres(ctx, store, service)
	}
	if err != nil {
		return nil, fmt.Errorf("open the data of %s: %w", service, err)
	}
	return db, nil
}

// Check says what is wrong with a flag --store.
func Check(store string) error {
	path, isFile := strings.CutPrefix(store, "sqlite:")
	switch {
	case isFile && path != "":
		return nil
	case isFile:
		return fmt.Errorf("--store is %q: it lacks the path of a file", store)
	case strings.HasPrefix(store, "postgres://"), strings.HasPrefix(store, "postgresql://"):
		_, err := pgxpool.ParseConfig(store) // which does not tell the password
		return err
	case strings.HasPrefix(store, "mysql://"):
		_, err := MySQLConfig(store, Main)
		return err
	}
	return fmt.Errorf("--store is %q: it is memory:, sqlite:PATH, postgres://USER:PASSWORD@HOST:PORT/DATABASE or mysql://USER:PASSWORD@HOST:PORT/SHOP", store)
}

// Close closes it.
func (db *DB) Close() error { return db.close() }

// Write runs f in a transaction, and commits it if f returns nil. It is serializable: f may run more than once, and must have no
// effects outside of it.
func (db *DB) Write(ctx context.Context, f func(tx *sql.Tx) error) error { return db.write(ctx, f) }

// Tables creates tables that are not there. A column that counts is a SERIAL, a text that is short, and may be a key, a NAME.
func (db *DB) Tables(ctx context.Context, ddl string) error {
	return db.makeTables(ctx, db.words.Replace(ddl))
}

// serializable runs f in a transaction, again if another one was in its way, as the error says.
func serializable(ctx context.Context, db *sql.DB, inTheWay func(error) bool, f func(*sql.Tx) error) (err error) {
	for try := range 20 {
		if try > 0 {
			select {
			case <-time.After(time.Duration(rand.Int64N(int64(time.Millisecond) << min(try, 7)))):
			case <-ctx.Done():
				return errors.Join(err, ctx.Err())
			}
		}
		if err = once(ctx, db, f); err == nil || !inTheWay(err) {
			return err
		}
	}
	return fmt.Errorf("other transactions were in the way each time: %w", err)
}

func once(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}
