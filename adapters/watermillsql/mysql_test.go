package watermillsql_test

import (
	"context"
	"database/sql"
	"net/url"
	"testing"

	_ "github.com/go-sql-driver/mysql" // the driver
	"github.com/stretchr/testify/require"

	"github.com/sagamill/sagamill/adapters/transporttest"
	"github.com/sagamill/sagamill/adapters/watermillsql"
	"github.com/sagamill/sagamill/internal/services"
)

// openMySQL opens the server's database "test".
func openMySQL(t testing.TB, u *url.URL) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", u.User.String()+"@tcp("+u.Host+")/test")
	require.NoError(t, err)
	db.SetMaxOpenConns(12)
	db.SetMaxIdleConns(12)
	return db
}

func dropMySQL(t testing.TB, db *sql.DB, topics ...string) {
	for _, topic := range topics {
		_, err := db.ExecContext(context.Background(), "DROP TABLE IF EXISTS `watermill_"+topic+"`, `watermill_offsets_"+topic+"`")
		require.NoError(t, err)
	}
}

// Not parallel: it looks for goroutines that are left behind.
func TestMySQLTransport(t *testing.T) {
	transporttest.Run(t, func(t testing.TB) transporttest.Harness {
		address := services.MySQL.URL(t)
		u, err := url.Parse(address)
		require.NoError(t, err)
		direct := openMySQL(t, u)
		t.Cleanup(func() { require.NoError(t, direct.Close()) })
		return transporttest.Harness{
			Open: func(t testing.TB) transporttest.Process {
				u, proxy := throughProxy(t, address)
				db := openMySQL(t, u)
				broker, err := watermillsql.NewMySQL(db, config, nil)
				require.NoError(t, err)
				return transporttest.Process{Broker: broker, Cut: proxy.Cut, Restore: proxy.Restore, Release: func() { _ = db.Close() }}
			},
			RedeliverAfter: redeliverAfter,
			Malform: func(topic string) error {
				_, err := direct.Exec("INSERT INTO `watermill_" + topic + "` (uuid, metadata) VALUES ('odd', '[17]')")
				return err
			},
			Clean:       func(topics []string) { dropMySQL(t, direct, topics...) },
			NotPromised: notPromised,
		}
	})
}
