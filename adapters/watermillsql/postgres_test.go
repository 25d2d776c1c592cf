package watermillsql_test

import (
	"context"
	"database/sql"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/transporttest"
	"github.com/sagamill/sagamill/adapters/watermillsql"
	"github.com/sagamill/sagamill/internal/services"
)

const redeliverAfter = 2 * time.Second

var config = watermillsql.Config{PollInterval: 10 * time.Millisecond, RedeliverAfter: redeliverAfter, TrimInterval: 200 * time.Millisecond}

var notPromised = map[transporttest.Promise]string{
	transporttest.Parallel:   "messages of a topic come one after the other to a group",
	transporttest.PassesHeld: "a message that is never acknowledged holds up its group",
}

// throughProxy returns an address of the same server that can be cut off.
func throughProxy(t testing.TB, address string) (*url.URL, *transporttest.Proxy) {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	proxy := transporttest.NewProxy(t, u.Host)
	u.Host = proxy.Addr()
	return u, proxy
}

func openPostgres(t testing.TB, address string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", address)
	require.NoError(t, err)
	db.SetMaxOpenConns(12)
	db.SetMaxIdleConns(12)
	return db
}

// dropPostgres deletes topics.
func dropPostgres(t testing.TB, db *sql.DB, topics ...string) {
	for _, topic := range topics {
		_, err := db.ExecContext(context.Background(), `DROP TABLE IF EXISTS "watermill_`+topic+`", "watermill_offsets_`+topic+`"`)
		require.NoError(t, err)
	}
}

func postgresHarness(t testing.TB, open func(t testing.TB, address string) (b *watermillsql.Broker, release func())) transporttest.Harness {
	address := services.Postgres.URL(t)
	direct := openPostgres(t, address)
	t.Cleanup(func() { require.NoError(t, direct.Close()) })
	return transporttest.Harness{
		Open: func(t testing.TB) transporttest.Process {
			u, proxy := throughProxy(t, address)
			broker, release := open(t, u.String())
			return transporttest.Process{Broker: broker, Cut: proxy.Cut, Restore: proxy.Restore, Release: release}
		},
		RedeliverAfter: redeliverAfter,
		Malform: func(topic string) error {
			_, err := direct.Exec(`INSERT INTO "watermill_` + topic + `" (uuid, metadata, transaction_id) VALUES ('odd', '[17]', pg_current_xact_id())`)
			return err
		},
		Clean:       func(topics []string) { dropPostgres(t, direct, topics...) },
		NotPromised: notPromised,
	}
}

// Not parallel: it looks for goroutines that are left behind.
func TestPostgresTransport(t *testing.T) {
	transporttest.Run(t, func(t testing.TB) transporttest.Harness {
		return postgresHarness(t, func(t testing.TB, address string) (*watermillsql.Broker, func()) {
			db := openPostgres(t, address)
			broker, err := watermillsql.NewPostgres(db, config, nil)
			require.NoError(t, err)
			return broker, func() { _ = db.Close() }
		})
	})
}

// Not parallel: it looks for goroutines that are left behind.
func TestPgxTransport(t *testing.T) {
	transporttest.Run(t, func(t testing.TB) transporttest.Harness {
		return postgresHarness(t, func(t testing.TB, address string) (*watermillsql.Broker, func()) {
			pool := openPool(t, address)
			broker, err := watermillsql.NewPgx(pool, config, nil)
			require.NoError(t, err)
			return broker, pool.Close
		})
	})
}

func openPool(t testing.TB, address string) *pgxpool.Pool {
	t.Helper()
	options, err := pgxpool.ParseConfig(address)
	require.NoError(t, err)
	options.MaxConns = 12
	pool, err := pgxpool.NewWithConfig(context.Background(), options)
	require.NoError(t, err)
	return pool
}
