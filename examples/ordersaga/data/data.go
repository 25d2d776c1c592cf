// Package data is where a service keeps its tables. Each has a database of its own, which nobody else opens. The SQL of the services
// is what every one of them understands.
package data

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/sagamill/sagamill/idempotency"
	"github.com/sagamill/sagamill/saga"
)

// Main is the service whose database is the one that --store names.
const Main = "order"

// DB is a service's database: for reading, and through Write for writing.
type DB struct {
	*sql.DB
	Inbox saga.Inbox[*sql.Tx] // the barrier of the service's participant
	Sagas saga.Store
	Keys  idempotency.Store

	close func() error
	write func(ctx context.Context, f func(*sql.Tx) error) error
	words *strings.Replacer // what the dialects call differently
}

// Open opens the database of a service, by the flag --store.
func Open(store, service string) (db *DB, err error) {
	if path, ok := strings.CutPrefix(store, "sqlite:"); ok {
		db, err = openSQLite(path, service)
	} else {
		err = Check(store)
	}
	if err != nil {
		return nil, fmt.Errorf("open the data of %s: %w", service, err)
	}
	return db, nil
}

// Check says what is wrong with a flag --store.
func Check(store string) error {
	if path, ok := strings.CutPrefix(store, "sqlite:"); ok && path != "" {
		return nil
	}
	return fmt.Errorf("--store is %q: it is memory: or sqlite:PATH", store)
}

// Close closes it.
func (db *DB) Close() error { return db.close() }

// Write runs f in a transaction, and commits it if f returns nil. It is serializable: f may run more than once, and must have no
// effects outside of it.
func (db *DB) Write(ctx context.Context, f func(tx *sql.Tx) error) error { return db.write(ctx, f) }

// Tables creates tables that are not there. A column that counts is a SERIAL.
func (db *DB) Tables(ctx context.Context, ddl string) error {
	return db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, db.words.Replace(ddl))
		return err
	})
}
