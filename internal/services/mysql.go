package services

import (
	"context"
	"database/sql"
	"net/url"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

// MySQLConfig is how the driver reaches the server, by the URL of [MySQL].
func MySQLConfig(tb testing.TB) *mysql.Config {
	tb.Helper()
	u, err := url.Parse(MySQL.URL(tb))
	require.NoError(tb, err)
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.InterpolateParams = "tcp", u.Host, u.User.Username(), true
	c.Passwd, _ = u.User.Password()
	c.Logger = &mysql.NopLogger{}
	return c
}

// MySQLPools makes pools for a schema of the test's own, each as a process would have one. The schema is not made; it is dropped in the end.
func MySQLPools(tb testing.TB, processes int) (pools []*sql.DB, schema string) {
	tb.Helper()
	schema = Name()
	for n := range processes {
		connector, err := mysql.NewConnector(MySQLConfig(tb))
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
