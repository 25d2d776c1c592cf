// Package data is where a service keeps its tables. Each has a file, or a schema, of its own, which nobody else opens. The SQL of
// the services is what every one of the databases understands.
package data

import (
	"context"
	"database/sql"
	"fmt"
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
	}
	return fmt.Errorf("--store is %q: it is memory:, sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/DATABASE", store)
}

// Close closes it.
func (db *DB) Close() error { return db.close() }

// Write runs f in a transaction, and commits it if f returns nil. It is serializable: f may run more than once, and must have no
// effects outside of it.
func (db *DB) Write(ctx context.Context, f func(tx *sql.Tx) error) error { return db.write(ctx, f) }

// Tables creates tables that are not there. A column that counts is a SERIAL.
func (db *DB) Tables(ctx context.Context, ddl string) error {
	return db.makeTables(ctx, db.words.Replace(ddl))
}
