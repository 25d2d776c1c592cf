package data

import (
	"context"
	"database/sql"
	"errors"
	"strings"

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
	inTheWay := func(err error) bool {
		var refused *pgconn.PgError
		return errors.As(err, &refused) && (refused.Code == "40001" || refused.Code == "40P01")
	}
	write := func(ctx context.Context, f func(*sql.Tx) error) error { return serializable(ctx, sqlDB, inTheWay, f) }
	return &DB{
		DB: sqlDB, Inbox: postgres.NewSQLInbox(db, sqlDB), Sagas: postgres.NewStore(db), Keys: postgres.NewIdempotencyStore(db),
		write: write, words: strings.NewReplacer("SERIAL", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "NAME", "TEXT"),
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
