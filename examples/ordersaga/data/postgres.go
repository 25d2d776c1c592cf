package data

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/sagamill/sagamill/adapters/postgres"
)

// connections is how many a service takes at most, unless the URL says it (pool_max_conns).
const connections = 8

// openPostgres opens a service's schema.
func openPostgres(ctx context.Context, url, service string) (*DB, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = connections
	}
	schema := "ordersaga_" + service
	config.ConnConfig.RuntimeParams["search_path"] = schema
	config.ConnConfig.RuntimeParams["application_name"] = schema
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	db, err := postgres.Open(ctx, pool, postgres.WithSchema(schema))
	if err != nil {
		pool.Close()
		return nil, err
	}
	sqlDB := stdlib.OpenDBFromPool(pool)
	write := func(ctx context.Context, f func(*sql.Tx) error) error { return serializable(ctx, sqlDB, f) }
	return &DB{
		DB: sqlDB, Inbox: postgres.NewSQLInbox(db, sqlDB), Sagas: postgres.NewStore(db), Keys: postgres.NewIdempotencyStore(db),
		write: write, words: strings.NewReplacer("SERIAL", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
		makeTables: func(ctx context.Context, ddl string) error {
			return write(ctx, func(tx *sql.Tx) error {
				// IF NOT EXISTS is no help to two processes at once.
				_, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, schema)
				if err == nil {
					_, err = tx.ExecContext(ctx, ddl)
				}
				return err
			})
		},
		close: func() error {
			err := sqlDB.Close()
			pool.Close()
			return err
		},
	}, nil
}

// serializable runs f in a transaction, again if another one was in its way.
func serializable(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) (err error) {
	for try := range 20 {
		if try > 0 {
			select {
			case <-time.After(time.Duration(rand.Int64N(int64(time.Millisecond) << min(try, 7)))):
			case <-ctx.Done():
				return errors.Join(err, ctx.Err())
			}
		}
		err = once(ctx, db, f)
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != "40001" && refused.Code != "40P01" {
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
