package app

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	goredis "github.com/redis/go-redis/v9"

	"github.com/sagamill/sagamill/adapters/gochannel"
	"github.com/sagamill/sagamill/adapters/redisstream"
	"github.com/sagamill/sagamill/adapters/watermillsql"
	"github.com/sagamill/sagamill/examples/ordersaga/contract"
	"github.com/sagamill/sagamill/examples/ordersaga/data"
	"github.com/sagamill/sagamill/saga"
)

// Broker is what carries the messages.
type Broker interface {
	Transport() saga.Transport
	Close() error
}

// OpenBroker opens a broker by the flag --broker.
type OpenBroker func(ctx context.Context, flag string, logger watermill.LoggerAdapter) (Broker, error)

const inProcess = "gochannel:" // carries messages within one process only

// ownBrokers are those of the root module, by the scheme of the flag; Config.Brokers adds to them.
var ownBrokers = map[string]OpenBroker{
	"gochannel": func(_ context.Context, _ string, logger watermill.LoggerAdapter) (Broker, error) {
		return gochannel.New(gochannel.Config{Confirmed: []string{contract.OrderEvents}}, logger), nil
	},
	"redis": func(_ context.Context, flag string, logger watermill.LoggerAdapter) (Broker, error) {
		options, err := goredis.ParseURL(flag)
		if err != nil {
			return nil, err
		}
		return redisstream.New(&goredis.UniversalOptions{
			Addrs: []string{options.Addr}, DB: options.DB, Username: options.Username, Password: options.Password, TLSConfig: options.TLSConfig,
		}, redisstream.Config{}, logger)
	},
	"postgres":   openPostgres,
	"postgresql": openPostgres,
	"mysql":      openMySQL,
}

func (c Config) brokers() map[string]OpenBroker {
	all := map[string]OpenBroker{}
	for _, some := range []map[string]OpenBroker{ownBrokers, c.Brokers} {
		for scheme, open := range some {
			all[scheme] = open
		}
	}
	return all
}

// openBroker opens what the flag names.
func (c Config) openBroker(ctx context.Context, logger watermill.LoggerAdapter) (Broker, error) {
	scheme, _, _ := strings.Cut(c.Broker, ":")
	b, err := c.brokers()[scheme](ctx, c.Broker, logger)
	if err != nil {
		return nil, fmt.Errorf("open the broker: %w", err)
	}
	return b, nil
}

// postgresBroker is watermill-sql in a schema of its own.
type postgresBroker struct {
	*watermillsql.Broker
	pool *pgxpool.Pool
}

const messagesSchema = "ordersaga_messages"

func openPostgres(ctx context.Context, flag string, logger watermill.LoggerAdapter) (b Broker, err error) {
	config, err := pgxpool.ParseConfig(flag)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(flag, "pool_max_conns") {
		config.MaxConns = 20 // each subscriber holds one while a message is handled
	}
	config.ConnConfig.RuntimeParams["search_path"] = messagesSchema
	config.ConnConfig.RuntimeParams["application_name"] = messagesSchema
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			pool.Close()
		}
	}()
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, messagesSchema); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+pgx.Identifier{messagesSchema}.Sanitize())
		return err
	})
	if err != nil {
		return nil, err
	}
	broker, err := watermillsql.NewPgx(pool, watermillsql.Config{}, logger)
	if err != nil {
		return nil, err
	}
	return postgresBroker{broker, pool}, nil
}

// Close implements Broker.
func (b postgresBroker) Close() error {
	err := b.Broker.Close()
	b.pool.Close()
	return err
}

// mysqlBroker is watermill-sql in a database of its own.
type mysqlBroker struct {
	*watermillsql.Broker
	pool *sql.DB
}

func openMySQL(ctx context.Context, flag string, logger watermill.LoggerAdapter) (Broker, error) {
	config, err := data.MySQLConfig(flag, "messages")
	if err != nil {
		return nil, err
	}
	if err := data.CreateMySQL(ctx, config); err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	pool := sql.OpenDB(connector)
	pool.SetMaxOpenConns(20) // each subscriber holds one while a message is handled
	pool.SetMaxIdleConns(20)
	broker, err := watermillsql.NewMySQL(pool, watermillsql.Config{}, logger)
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return mysqlBroker{broker, pool}, nil
}

// Close implements Broker.
func (b mysqlBroker) Close() error { return errors.Join(b.Broker.Close(), b.pool.Close()) }
