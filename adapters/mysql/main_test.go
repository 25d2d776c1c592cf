package mysql_test

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	sagamysql "github.com/sagamill/sagamill/adapters/mysql"
	"github.com/sagamill/sagamill/internal/leaktest"
	"github.com/sagamill/sagamill/internal/services"
	"github.com/sagamill/sagamill/internal/services/mariadbtest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// database is a schema of the test's own.
type database struct {
	tb     testing.TB
	server *mysql.Config
	schema string
	pool   *sql.DB
}

// newDatabase makes a name for a schema, which is dropped when the test is over, and a pool. The schema is not made.
func newDatabase(tb testing.TB, configure ...func(*mysql.Config)) *database {
	tb.Helper()
	server := mariadbtest.Config(tb)
	d := &database{tb: tb, server: server, schema: services.Name()}
	d.pool = d.newPool(configure...)
	tb.Cleanup(func() {
		pool, err := sql.Open("mysql", server.FormatDSN())
		require.NoError(tb, err)
		_, err = pool.ExecContext(context.Background(), `DROP DATABASE IF EXISTS `+quoted(d.schema))
		require.NoError(tb, err)
		require.NoError(tb, pool.Close())
	})
	return d
}

func quoted(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// of is the database in the hands of a sub-test, at whose end what that has made is closed.
func (d *database) of(tb testing.TB) *database {
	return &database{tb: tb, server: d.server, schema: d.schema, pool: d.pool}
}

func (d *database) newPool(configure ...func(*mysql.Config)) *sql.DB {
	tb := d.tb
	tb.Helper()
	config := d.server.Clone()
	for _, c := range configure {
		c(config)
	}
	connector, err := mysql.NewConnector(config)
	require.NoError(tb, err)
	pool := sql.OpenDB(connector)
	pool.SetMaxOpenConns(6)
	pool.SetMaxIdleConns(6)
	tb.Cleanup(func() { _ = pool.Close() })
	return pool
}

// param sets a variable of the sessions of a pool.
func param(name, value string) func(*mysql.Config) {
	return func(c *mysql.Config) {
		if c.Params == nil {
			c.Params = map[string]string{}
		}
		c.Params[name] = value
	}
}

func (d *database) open(opts ...sagamysql.Option) *sagamysql.DB {
	d.tb.Helper()
	return d.openOn(d.pool, opts...)
}

func (d *database) openOn(pool *sql.DB, opts ...sagamysql.Option) *sagamysql.DB {
	d.tb.Helper()
	opts = append([]sagamysql.Option{sagamysql.WithSchema(d.schema), sagamysql.AcceptDataLoss()}, opts...)
	db, err := sagamysql.Open(d.tb.Context(), pool, opts...)
	require.NoError(d.tb, err)
	return db
}

// table is the qualified name of one of the tables.
func (d *database) table(name string) string {
	return quoted(d.schema) + "." + quoted("sagamill_"+name)
}

func (d *database) exec(query string, args ...any) {
	d.tb.Helper()
	_, err := d.pool.ExecContext(context.Background(), query, args...)
	require.NoError(d.tb, err, query)
}

// scan reads the only row of a query.
func scan[T any](d *database, query string, args ...any) (value T) {
	d.tb.Helper()
	require.NoError(d.tb, d.pool.QueryRowContext(context.Background(), query, args...).Scan(&value), query)
	return value
}

// strings reads the only column of a query.
func (d *database) strings(query string, args ...any) (all []string) {
	d.tb.Helper()
	rows, err := d.pool.QueryContext(context.Background(), query, args...)
	require.NoError(d.tb, err)
	for rows.Next() {
		var s string
		require.NoError(d.tb, rows.Scan(&s))
		all = append(all, s)
	}
	require.NoError(d.tb, rows.Err())
	return all
}

// clock stands in for the server's clock.
type clock struct {
	d    *database
	name string

	mu  sync.Mutex
	now time.Time
}

// withClocks makes what clocks need.
func (d *database) withClocks() *database {
	d.tb.Helper()
	d.exec(`CREATE DATABASE IF NOT EXISTS ` + quoted(d.schema))
	d.exec(`CREATE TABLE ` + d.table("clocks") + ` (name VARCHAR(64) PRIMARY KEY, now BIGINT NOT NULL)`)
	return d
}

// newClock makes a clock that shows some time in 2030, and stands still unless it is moved.
func (d *database) newClock() *clock {
	d.tb.Helper()
	c := &clock{d: d, name: services.Name()}
	c.set(time.Date(2030, 3, 4, 5, 6, 7, 123456000, time.UTC))
	return c
}

// option makes a DB see the clock.
func (c *clock) option() sagamysql.Option {
	return sagamysql.WithClock(`(SELECT now FROM ` + c.d.table("clocks") + ` WHERE name = '` + c.name + `')`)
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
	_, err := c.d.pool.ExecContext(context.Background(), `INSERT INTO `+c.d.table("clocks")+
		` (name, now) VALUES (?, ?) ON DUPLICATE KEY UPDATE now = VALUES(now)`, c.name, now.UnixMicro())
	if err != nil {
		c.d.tb.Errorf("the clock: %v", err)
	}
}
