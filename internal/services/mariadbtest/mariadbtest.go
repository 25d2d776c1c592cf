// Package mariadbtest opens the MariaDB or MySQL server that tests need. It is apart from services so that tests which need none do without the driver.
package mariadbtest

import (
	"context"
	"database/sql"
	"net/url"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/internal/services"
)

// Config is how the driver reaches the server, by the URL of [services.MySQL]. It ends the test if the server is not there.
func Config(tb testing.TB) *mysql.Config {
	tb.Helper()
	u, err := url.Parse(services.MySQL.URL(tb))
	require.NoError(tb, err)
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.InterpolateParams = "tcp", u.Host, u.User.Username(), true
	c.Passwd, _ = u.User.Password()
	c.Logger = &mysql.NopLogger{}
	return c
}

// Pools makes pools for a schema of the test's own, each as a process would have one. The schema is not made; it is dropped in the end.
func Pools(tb testing.TB, processes int) (pools []*sql.DB, schema string) {
	tb.Helper()
	schema = services.Name()
	for n := range processes {
		connector, err := mysql.NewConnector(Config(tb))
		require.NoError(tb, err)
		pool := sql.OpenDB(connector)
		pool.SetMaxOpenConns(6)
		pool.SetMaxIdleConns(6)
		tb.Cleanup(func() {
			if n == 0 {
				_, err := pool.ExecContext(context.Background(), `DROP DATABASE IF EXISTS `+schema)
				require.NoError(tb, err)
			}
			require.NoError(tb, pool.Close())
		})
		pools = append(pools, pool)
	}
	return pools, schema
}
