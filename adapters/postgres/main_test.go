package postgres_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/postgres"
	"github.com/sagamill/sagamill/internal/leaktest"
	"github.com/sagamill/sagamill/internal/services"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// database is a schema of the test's own.
type database struct {
	tb     testing.TB
	url    string
	schema string
	pool   *pgxpool.Pool
}

// newDatabase makes a name for a schema, which is dropped when the test is over, and a pool. The schema is not made.
func newDatabase(tb testing.TB, configure ...func(*pgxpool.Config)) *database {
	tb.Helper()
	d := &database{tb: tb, url: services.Postgres.URL(tb), schema: services.Name()}
	d.pool = d.newPool(configure...)
	tb.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), d.url)
		require.NoError(tb, err)
		_, err = conn.Exec(context.Background(), `DROP SCHEMA IF EXISTS `+pgx.Identifier{d.schema}.Sanitize()+` CASCADE`)
		require.NoError(tb, err)
		require.NoError(tb, conn.Close(context.Background()))
	})
	return d
}

// of is the database in the hands of a sub-test, at whose end what that has made is closed.
func (d *database) of(tb testing.TB) *database {
	return &database{tb: tb, url: d.url, schema: d.schema, pool: d.pool}
}

func (d *database) newPool(configure ...func(*pgxpool.Config)) *pgxpool.Pool {
	tb := d.tb
	tb.Helper()
	config, err := pgxpool.ParseConfig(d.url)
	require.NoError(tb, err)
	config.MaxConns = 6
	config.ConnConfig.RuntimeParams["application_name"] = d.schema
	for _, c := range configure {
		c(config)
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	require.NoError(tb, err)
	tb.Cleanup(pool.Close)
	return pool
}

func (d *database) open(opts ...postgres.Option) *postgres.DB {
	d.tb.Helper()
	return d.openOn(d.pool, opts...)
}

func (d *database) openOn(pool *pgxpool.Pool, opts ...postgres.Option) *postgres.DB {
	d.tb.Helper()
	opts = append([]postgres.Option{postgres.WithSchema(d.schema), postgres.AcceptDataLoss()}, opts...)
	db, err := postgres.Open(d.tb.Context(), pool, opts...)
	require.NoError(d.tb, err)
	return db
}

// table is the qualified name of one of the tables.
func (d *database) table(name string) string {
	return pgx.Identifier{d.schema, "sagamill_" + name}.Sanitize()
}

func (d *database) exec(sql string, args ...any) {
	d.tb.Helper()
	_, err := d.pool.Exec(context.Background(), sql, args...)
	require.NoError(d.tb, err)
}

// scan reads the only row of a query.
func scan[T any](d *database, sql string, args ...any) (value T) {
	d.tb.Helper()
	require.NoError(d.tb, d.pool.QueryRow(context.Background(), sql, args...).Scan(&value))
	return value
}

// clock stands in for the server's clock: a function of the same name, which the sessions of a pool find first. So the tests run
// the very statements that are shipped.
type clock struct {
	d    *database
	name string

	mu  sync.Mutex
	now time.Time
}

// withClocks makes what clocks need.
func (d *database) withClocks() *database {
	d.tb.Helper()
	d.exec(`CREATE SCHEMA IF NOT EXISTS ` + pgx.Identifier{d.schema}.Sanitize())
	clocks := pgx.Identifier{d.schema, "clocks"}.Sanitize()
	d.exec(`CREATE TABLE ` + clocks + ` (name text PRIMARY KEY, now timestamptz NOT NULL)`)
	d.exec(`CREATE FUNCTION ` + pgx.Identifier{d.schema, "clock_timestamp"}.Sanitize() + `() RETURNS timestamptz LANGUAGE sql VOLATILE
		AS $$ SELECT now FROM ` + clocks + ` WHERE name = current_setting('test.clock') $$`)
	return d
}

// newClock makes a clock that shows some time in 2030, and stands still unless it is moved.
func (d *database) newClock() *clock {
	d.tb.Helper()
	c := &clock{d: d, name: services.Name()}
	c.set(time.Date(2030, 3, 4, 5, 6, 7, 123456000, time.UTC))
	return c
}

// sees configures a pool so that its sessions see the clock.
func (c *clock) sees(config *pgxpool.Config) {
	config.ConnConfig.RuntimeParams["search_path"] = pgx.Identifier{c.d.schema}.Sanitize() + ", pg_catalog"
	config.ConnConfig.RuntimeParams["test.clock"] = c.name
}

func (c *clock) advance(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(c.now.Add(by))
}

// follow sets the clock to what another one shows, if it has moved.
func (c *clock) follow(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.now.Equal(now) {
		c.set(now)
	}
}

func (c *clock) set(now time.Time) {
	c.now = now
	const set = ` (name, now) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET now = excluded.now`
	_, err := c.d.pool.Exec(context.Background(), `INSERT INTO `+pgx.Identifier{c.d.schema, "clocks"}.Sanitize()+set, c.name, now)
	if err != nil {
		c.d.tb.Errorf("the clock: %v", err)
	}
}
